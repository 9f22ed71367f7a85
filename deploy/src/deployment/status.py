"""What the supervisor tells the rest of the world: a small JSON file, replaced at each change."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class Phase(StrEnum):
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    STOPPING = "stopping"


class PartState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    # It ended, and will be started again after a pause.
    WAITING = "waiting"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class PartStatus:
    """One process. `since`: Unix time of the last change of state; `last_end`: how the previous life ended."""

    state: PartState
    pid: int | None = None
    since: float = 0.0
    restarts: int = 0
    last_end: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    supervisor_pid: int
    phase: Phase
    message: str = ""
    parts: Mapping[str, PartStatus] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(dataclasses.asdict(self)) + "\n")
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> Status | None:
        """None when there never was a supervisor."""
        try:
            content = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        parts = {
            name: PartStatus(**part | {"state": PartState(part["state"])}) for name, part in content["parts"].items()
        }
        return cls(content["supervisor_pid"], Phase(content["phase"]), content["message"], parts)
