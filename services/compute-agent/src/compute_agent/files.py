"""Files that are whole or absent, and locks between processes."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

_POLL_S = 0.05
_MODE = 0o644

Write = Callable[[Path, str], None]
"""`write_atomically` or `write_in_place`."""


def write_atomically(path: Path, text: str, mode: int = _MODE) -> None:
    """Replaces a file; after a crash, of the machine as well, it holds the old text or the new one."""
    draft = _draft(path)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.rename(draft, path)
    sync_folder(path.parent)


def write_in_place(path: Path, text: str) -> None:
    """Gives a file a text of less than a page of memory; blanks may follow it. Whoever reads it meanwhile, or after a
    crash of this process, finds the old text or the new one; after one of the machine it may be empty.

    Replaced files cost those that follow: ext4 without a journal gives nobody the inode of one that went a minute ago,
    and looks at each such before it finds another.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY)
    except FileNotFoundError:
        draft = _draft(path)
        _write_over(os.open(draft, os.O_WRONLY | os.O_CREAT, _MODE), text)
        os.rename(draft, path)
    else:
        _write_over(descriptor, text)


def _write_over(descriptor: int, text: str) -> None:
    """In one write: nothing is cut off before. Closes the file."""
    try:
        os.write(descriptor, text.encode().ljust(os.fstat(descriptor).st_size))
    finally:
        os.close(descriptor)


def _draft(path: Path) -> str:
    return f"{path}.new"


def supports_direct_io(folder: Path) -> bool:
    """Can files in the folder bypass the page cache (O_DIRECT of open(2))? tmpfs, for one, cannot."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".direct-io-") as file:
        try:
            os.close(os.open(file.name, os.O_RDWR | os.O_DIRECT))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return False
    return True


def sync_folder(folder: Path) -> None:
    """Makes renames and unlinks in the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def try_lock(path: Path, *, exclusive: bool) -> int | None:
    """Takes flock(2) on a lock file, which it makes; its descriptor, or None while another holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        # The holder before us may have removed the file: then a newcomer locks another one.
        if os.path.samestat(os.fstat(descriptor), os.stat(path)):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


@asynccontextmanager
async def lock(path: Path, *, exclusive: bool) -> AsyncIterator[None]:
    """Waits for the lock and holds it. Polls, because a thread in flock(2) can't be cancelled."""
    descriptor = try_lock(path, exclusive=exclusive)
    while descriptor is None:
        await asyncio.sleep(_POLL_S)
        descriptor = try_lock(path, exclusive=exclusive)
    try:
        yield
    finally:
        os.close(descriptor)
