"""The folder of blobs: `blobs/<sha256>`, read-only, and `uploads/` for what is arriving. All replicas share it.

A blob is durable before anybody is told of it: file and folder are synced. What no image is made of any more is swept
away later; a lock on the folder keeps the sweeper from a blob that an upload has just found to be there already.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import re
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import structlog

from core.ids import uuid7

_log = structlog.get_logger(__name__)
_SHA256 = re.compile(r"[0-9a-f]{64}")

UPLOAD_MAX_AGE_S = 24 * 3600.0
UNUSED_MIN_AGE_S = 3600.0
SWEEP_INTERVAL_S = 3600.0


def is_sha256(text: str) -> bool:
    """64 hexadecimal digits in lower case."""
    return _SHA256.fullmatch(text) is not None


class Upload:
    """A file that is arriving. Its methods block: call them in a thread, one at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._hash = hashlib.sha256()
        self._file: BinaryIO = path.open("xb")

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Raises OSError when the disk is full."""
        self._file.write(chunk)
        self._hash.update(chunk)
        self.size += len(chunk)

    def finish(self) -> None:
        """What was written is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def discard(self) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)


class Blobs:
    """Made of a folder that all replicas share; its subfolders are made when absent."""

    def __init__(self, folder: Path) -> None:
        self._blobs = folder / "blobs"
        self._uploads = folder / "uploads"
        self._lock = folder / "lock"
        for subfolder in (self._blobs, self._uploads):
            subfolder.mkdir(parents=True, exist_ok=True, mode=0o750)

    def begin(self) -> Upload:
        return Upload(self._uploads / str(uuid7()))

    def path(self, sha256: str) -> Path | None:
        """The blob's file, if it is there."""
        path = self._blobs / sha256
        return path if is_sha256(sha256) and path.is_file() else None

    def keep(self, upload: Upload) -> None:
        """Makes a finished upload a blob, durably. The same data may be there already."""
        os.chmod(upload.path, 0o440)
        with self._locked():
            # The time of the file tells the sweeper that it was wanted just now.
            os.utime(upload.path)
            os.replace(upload.path, self._blobs / upload.sha256)
            _sync_folder(self._blobs)

    def now(self) -> float:
        """The folder's own time, by which its files are dated: seconds since the epoch.

        It is that of the file server where the folder is shared, whatever the clock of this machine.
        """
        with self._lock.open("a") as file:
            os.utime(file.fileno())
            return os.fstat(file.fileno()).st_mtime

    def sweep(self, wanted: Collection[str], now: float) -> list[str]:
        """Deletes what arrives no more, and blobs that are not wanted and not new. Returns the blobs deleted.

        `wanted` was read before: what became wanted since is newer than `UNUSED_MIN_AGE_S`.
        """
        for upload in self._uploads.iterdir():
            if now - upload.stat().st_mtime > UPLOAD_MAX_AGE_S:
                upload.unlink(missing_ok=True)
        deleted = []
        with self._locked():
            for blob in self._blobs.iterdir():
                if blob.name not in wanted and now - blob.stat().st_mtime > UNUSED_MIN_AGE_S:
                    blob.unlink()
                    deleted.append(blob.name)
        return deleted

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


async def sweep_forever(blobs: Blobs, wanted: Callable[[], Awaitable[Collection[str]]]) -> None:
    """Every hour. `wanted`: the checksums of all live images."""
    while True:
        try:
            deleted = await asyncio.to_thread(_sweep, blobs, await wanted())
            if deleted:
                _log.info("blobs.swept", deleted=deleted)
        except Exception as error:
            # Postgres away, the folder not mounted: in an hour, again.
            _log.warning("blobs.not_swept", error=repr(error))
        await asyncio.sleep(SWEEP_INTERVAL_S)


def _sweep(blobs: Blobs, wanted: Collection[str]) -> list[str]:
    return blobs.sweep(wanted, blobs.now())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
