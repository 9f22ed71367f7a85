"""What a client remembers of a cloud: its access token, and the highest position in the log that it has seen.

A `Memory` lives as long as the process; `FileMemory` carries both from one `cirra` command to the next, so that a
command reads what the one before it wrote, and does not log in again.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

# Read models are behind the log by moments. An older position says nothing, and after the restore of a backup it could
# be one that the log has not reached again.
POSITION_LIFETIME_S = 600.0
# A token is renewed so long before its end, but never one that was got so short a time ago: the clocks may differ.
RENEW_BEFORE_S = 120.0
RENEW_NOT_WITHIN_S = 300.0


@dataclass(frozen=True, slots=True)
class AccessToken:
    """Times are seconds since the epoch; `obtained_at` by this machine's clock, `expires_at` by the cloud's."""

    value: str
    expires_at: float
    obtained_at: float

    def is_fresh(self, now: float) -> bool:
        return now < self.expires_at - RENEW_BEFORE_S or 0 <= now - self.obtained_at < RENEW_NOT_WITHIN_S


class Memory:
    """`position`: the highest seen in `epoch`; 0 when none. A new epoch begins when the log was restored: positions of
    an earlier one may be of events that are lost."""

    def __init__(self) -> None:
        self.position = self.epoch = 0
        self.token: AccessToken | None = None

    def saw(self, position: int, epoch: int = 0) -> None:
        """*epoch*: 0 when the cloud did not tell."""
        if epoch > self.epoch:
            self.position = position if self.epoch else max(self.position, position)
            self.epoch = epoch
        elif epoch in (0, self.epoch):
            self.position = max(self.position, position)

    def save(self) -> None:
        """Keep it for the next process, where that is possible."""


class FileMemory(Memory):
    """In a file that only its owner can read. One that can't be understood counts as empty, and is written anew."""

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._path = path
        self._now = now
        self._load()

    def _load(self) -> None:
        try:
            stored = _parse(self._path.read_bytes())
        except FileNotFoundError:
            return
        self.token = stored.token
        if 0 <= self._now() - stored.seen_at < POSITION_LIFETIME_S:
            self.position, self.epoch = stored.position, stored.epoch

    def save(self) -> None:
        """The higher position of the later epoch wins, whoever saw it. Raises OSError."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            other = _parse(file.read())
            now = self._now()
            mine, known = (self.epoch, self.position), (other.epoch, other.position)
            epoch, position = max(mine, known) if 0 <= now - other.seen_at < POSITION_LIFETIME_S else mine
            _write(file, _Stored(position, now, self.token, epoch))


@dataclass(frozen=True, slots=True)
class _Stored:
    position: int = 0
    seen_at: float = 0.0
    token: AccessToken | None = None
    epoch: int = 0


def _parse(data: bytes) -> _Stored:
    try:
        fields = json.loads(data)
        token = fields["token"]
        return _Stored(
            int(fields["position"]),
            float(fields["seen_at"]),
            None if token is None else AccessToken(**token),
            int(fields.get("epoch", 0)),
        )
    except (ValueError, TypeError, KeyError):
        return _Stored()


def _write(file: BinaryIO, stored: _Stored) -> None:
    file.seek(0)
    file.truncate()
    file.write(json.dumps(asdict(stored)).encode())
