"""The host's image cache: `_base/<sha256>`, filled once however many guests ask, read-only, shared as bases.

Next to a base: `<sha256>.part` while it is downloaded, and `<sha256>.lock`, held shared while an overlay is made
on it and exclusively while it is filled or evicted, by whichever process.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from cirra.agent.v1.desired_pb2 import ImageRef
from compute_agent.errors import image_unsafe
from compute_agent.files import lock, sync_folder, try_lock
from compute_agent.images import qcow2
from compute_agent.images.inspect import inspect

_SHA256 = re.compile(r"[0-9a-f]{64}")
_READ_ONLY = 0o444

log = structlog.get_logger(__name__)

Download = Callable[[ImageRef, Path], Awaitable[None]]
"""Makes a file the verified bytes of an image (`ImageDownloader.download`)."""


@dataclass(frozen=True, slots=True)
class Base:
    """An image in the cache. `cached`: nothing had to be downloaded for this use."""

    path: Path
    disk_format: str
    virtual_size_bytes: int
    cached: bool


class ImageCache:
    """Bases in `folder`, which need not exist yet."""

    def __init__(self, folder: Path, download: Download) -> None:
        self._folder = folder
        self._download = download
        self._fills: dict[str, asyncio.Task[None]] = {}

    def path(self, sha256: str) -> Path:
        """Where the base of a digest is or would be. The digest comes from elsewhere: it is checked."""
        if not _SHA256.fullmatch(sha256):
            raise image_unsafe(f"{sha256!r} is no SHA-256")
        return self._folder / sha256

    @asynccontextmanager
    async def use(self, image: ImageRef) -> AsyncIterator[Base]:
        """The base of an image, downloaded if it is absent; it is not evicted within the context.

        The base is verified, inspected as `image.disk_format`, complete, and read-only. Raises `AgentFailure`
        (IMAGE_…), `OSError`.
        """
        path = self.path(image.sha256)
        cached = True
        while True:
            self._folder.mkdir(mode=0o711, exist_ok=True)
            async with lock(_lock_file(path), exclusive=False):
                if path.exists():
                    os.utime(path)
                    virtual_size = await inspect(path, image.disk_format)
                    yield Base(path, image.disk_format, virtual_size, cached)
                    return
            cached = False
            await self._fill_once(image)

    async def evict(self, instance_folders: Iterable[Path], *, unused_for: timedelta, now: datetime) -> list[str]:
        """Deletes bases, and abandoned downloads, that nobody used for `unused_for`; their names.

        A base that any qcow2 file in `instance_folders` stands on is kept, however old.
        """
        in_use = await asyncio.to_thread(_bases_in_use, list(instance_folders))
        oldest = (now - unused_for).timestamp()
        evicted = []
        for path in sorted(self._folder.iterdir()) if self._folder.is_dir() else []:
            digest = path.name.removesuffix(".part")
            if not _SHA256.fullmatch(digest) or path.resolve() in in_use or path.stat().st_mtime > oldest:
                continue
            if _delete_unlocked(path, _lock_file(self._folder / digest)):
                evicted.append(path.name)
                log.info("image evicted from the cache", file=path.name)
        return evicted

    async def close(self) -> None:
        """Ends downloads; what they have is kept, to go on from."""
        for fill in list(self._fills.values()):
            fill.cancel()
        await asyncio.gather(*self._fills.values(), return_exceptions=True)

    async def _fill_once(self, image: ImageRef) -> None:
        """Fills or joins the filling; cancelling one who waits does not end it for the others."""
        fill = self._fills.get(image.sha256)
        if fill is None:
            fill = asyncio.create_task(self._fill(image), name=f"fill image cache {image.sha256}")
            self._fills[image.sha256] = fill
            fill.add_done_callback(lambda _: self._fills.pop(image.sha256))
        await asyncio.shield(fill)

    async def _fill(self, image: ImageRef) -> None:
        path = self.path(image.sha256)
        async with lock(_lock_file(path), exclusive=True):
            if path.exists():
                return
            part = path.with_name(path.name + ".part")
            await self._download(image, part)
            await inspect(part, image.disk_format)
            await asyncio.to_thread(_publish, part, path)
            log.info("image cached", image_id=image.image_id, sha256=image.sha256, size_bytes=image.size_bytes)


def _lock_file(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _publish(part: Path, path: Path) -> None:
    with part.open("rb") as file:
        os.fchmod(file.fileno(), _READ_ONLY)
        os.fsync(file.fileno())
    part.rename(path)
    sync_folder(path.parent)


def _delete_unlocked(path: Path, lock_file: Path) -> bool:
    """Deletes a file of the cache and its lock; False while somebody uses it."""
    descriptor = try_lock(lock_file, exclusive=True)
    if descriptor is None:
        return False
    try:
        path.unlink()
        lock_file.unlink()
    finally:
        os.close(descriptor)
    return True


def _bases_in_use(instance_folders: Iterable[Path]) -> set[Path]:
    """The backing files of all qcow2 files in the folders, as the files themselves say."""
    found = set()
    for folder in instance_folders:
        for path in folder.iterdir():
            if not path.is_file() or not _is_qcow2(path):
                continue
            backing_file = qcow2.read_header(path).backing_file
            if backing_file is not None:
                found.add((folder / backing_file).resolve())
    return found


def _is_qcow2(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(qcow2.MAGIC)) == qcow2.MAGIC
