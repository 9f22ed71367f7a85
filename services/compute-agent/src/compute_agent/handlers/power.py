"""Whether a guest is off because it shut itself down: then reconcile must not start it again.

Desired state says "on" until the cloud has heard of the shutdown and decided. The record is a file in the instance's
folder: the generation that was last made to run, and whether the guest has shut itself down since.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from compute_agent.files import Write, write_atomically, write_in_place

_FILE = "power.json"


@dataclass(frozen=True, slots=True)
class _Power:
    generation: int
    shut_down_by_guest: bool


class PowerRecord:
    """The record of one instance. Its folder may be missing; then there is nothing to note."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / _FILE

    def note_on(self, generation: int) -> None:
        """It runs, as desired by this generation. A crash of the host ends the guest: it may end this note too."""
        self._write(_Power(generation, shut_down_by_guest=False), write_in_place)

    def note_shutdown_by_guest(self) -> None:
        """It shut itself down, after it was made to run."""
        if (power := self._read()) is not None:
            self._write(_Power(power.generation, shut_down_by_guest=True), write_atomically)

    def may_start(self, generation: int, *, note: bool) -> bool:
        """Not when the guest shut itself down after this generation had been made to run. When it may, `note` also
        notes that it is on."""
        power = self._read()
        if power is not None and power.shut_down_by_guest and power.generation >= generation:
            return False
        if note:
            self.note_on(generation)
        return True

    def _read(self) -> _Power | None:
        try:
            text = self._file.read_text()
        except FileNotFoundError:
            return None
        return _Power(**json.loads(text)) if text else None

    def _write(self, power: _Power, write: Write) -> None:
        if self._file.parent.is_dir() and power != self._read():
            write(self._file, json.dumps(asdict(power)) + "\n")
