"""Storage pools: where volumes will live, and how much room there is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from core.errors import FailedPrecondition

_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class PoolUsage:
    """In whole GiB, rounded down: what is promised must be there."""

    name: str
    backend: str
    capacity_gib: int
    free_gib: int


class StorageBackend(Protocol):
    """A place for volumes."""

    def usage(self) -> PoolUsage:
        """What is there now; blocks. Raises FailedPrecondition when the place is gone."""


@dataclass(frozen=True, slots=True)
class FileBackend:
    """Volumes as files in a folder, on whatever file system that is."""

    name: str
    folder: Path

    def usage(self) -> PoolUsage:
        try:
            status = os.statvfs(self.folder)
        except FileNotFoundError as error:
            # Not made here: a file system that failed to mount must not look like an empty pool.
            raise FailedPrecondition(
                f"{self.folder}, the folder of pool {self.name}, does not exist",
                reason="POOL_MISSING",
                remedy="mount or make the folder",
            ) from error
        # f_bavail: what is kept for root is not ours to promise.
        return PoolUsage(
            name=self.name,
            backend="file",
            capacity_gib=status.f_blocks * status.f_frsize // _GIB,
            free_gib=status.f_bavail * status.f_frsize // _GIB,
        )
