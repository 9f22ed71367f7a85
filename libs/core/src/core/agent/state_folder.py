"""The folder for what agents make on a host, and the proof that it is the right one, not the empty mount point below.

The folder carries an id in its marker; the host's identity folder, which is on another file system when it matters,
remembers it. At the first start neither has one, and `initialise` makes both. Without the proof an agent makes nothing,
and takes nothing for gone: a host whose file system failed to mount is not a new one.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import structlog

from core.agent.hand import Hand
from core.agent.handler import AgentFailure
from core.pki.files import write_public

log = structlog.get_logger(__name__)

MARKER = ".cirra-state"
_RECORD = "state-folder.json"
# Others may pass through (QEMU and dnsmasq need not be root's), and list nothing.
FOLDER_MODE = 0o711


@dataclass(frozen=True, slots=True)
class _File:
    """Which file, on which file system, as last written (stat(2))."""

    device: int
    inode: int
    mtime_ns: int
    size: int

    @classmethod
    def at(cls, path: Path) -> _File | None:
        try:
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return cls(found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)


class StateFolder:
    """`path`: one for all agents of a host. `host_directory`: where the host's identity is."""

    def __init__(self, path: Path, host_directory: Path) -> None:
        self.path = path
        self._record = host_directory / _RECORD
        # What the marker and the record were when they were found to agree: they are read again when they are others.
        self._proven: tuple[_File, _File] | None = None
        self._hand = Hand("state folder")

    def initialise(self) -> None:
        """Adopts the folder at this host's first start, creating it if need be; later does nothing at all.

        The agents of a host may do so at once: the first marker is the one that counts.
        """
        if self._record.exists():
            return
        self.path.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)
        marker = self.path / MARKER
        if not marker.exists():
            _create(marker, json.dumps({"state_id": str(uuid4())}).encode() + b"\n")
        record = {"state_directory": str(self.path), "state_id": _state_id(marker)}
        write_public(self._record, json.dumps(record).encode() + b"\n")

    def require(self) -> None:
        """Raises `AgentFailure` STATE_FOLDER_MISSING unless the folder is there and is the right one."""
        record = _File.at(self._record)
        if record is None:
            raise _missing(self.path, f"{self._record} is gone")
        marker = _File.at(self.path / MARKER)
        if marker is None:
            raise _missing(self.path, f"no {MARKER} in it")
        if self._proven == (marker, record):
            return
        if _state_id(self.path / MARKER) != _state_id(self._record):
            raise _missing(self.path, f"its {MARKER} is that of another")
        self._proven = marker, record

    def problem(self) -> AgentFailure | None:
        """What `require` would raise."""
        try:
            self.require()
        except AgentFailure as failure:
            return failure
        return None

    async def prove(self) -> None:
        """As `require`, for those who must not stand still with a file system that hangs."""
        await self._hand.do(self.require)

    async def watch(self, changed: Callable[[], None], *, interval_s: float) -> None:
        """Calls *changed* when the folder went away or came back, and logs it. Runs for ever."""
        was_right = True
        while True:
            problem = await self._hand.do(self.problem)
            if (problem is None) != was_right:
                was_right = problem is None
                if problem is None:
                    log.info("the state folder is back", path=str(self.path))
                else:
                    log.error("nothing is done here", error=problem.message, remedy=problem.remedy)
                changed()
            await asyncio.sleep(interval_s)


def _state_id(file: Path) -> str:
    return str(json.loads(file.read_text())["state_id"])


def _create(marker: Path, content: bytes) -> None:
    """Writes it whole, unless another has done so first."""
    draft = marker.with_name(f"{marker.name}.{uuid4()}")
    write_public(draft, content)
    try:
        with suppress(FileExistsError):
            os.link(draft, marker)
    finally:
        draft.unlink()


def _missing(path: Path, detail: str) -> AgentFailure:
    return AgentFailure(
        f"the state folder {path} is not the one that this host was set up with: {detail}",
        reason="STATE_FOLDER_MISSING",
        remedy=f"mount the file system of {path} on this host; nothing is created there meanwhile",
        retryable=True,
        reschedule=True,
    )
