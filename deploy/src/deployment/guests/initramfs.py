"""A writer of initramfs archives: cpio in the "newc" format, gzipped.

Source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst. Everything is owned by root
and dated at the epoch, so that the same entries give the same bytes.
"""

from __future__ import annotations

import gzip
import stat
from collections.abc import Iterable
from dataclasses import dataclass

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the archive.

    `path` is relative to the root, without leading slash; `mode` is as in stat(2), type included; `content`
    holds a file's bytes or a link's target; `device` is (major, minor) of a device node.
    """

    path: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


def directory(path: str) -> Entry:
    return Entry(path, stat.S_IFDIR | 0o755)


def file(path: str, content: bytes, *, executable: bool = False) -> Entry:
    return Entry(path, stat.S_IFREG | (0o755 if executable else 0o644), content)


def symlink(path: str, target: str) -> Entry:
    return Entry(path, stat.S_IFLNK | 0o777, target.encode())


def character_device(path: str, major: int, minor: int) -> Entry:
    return Entry(path, stat.S_IFCHR | 0o600, device=(major, minor))


def pack(entries: Iterable[Entry]) -> bytes:
    """The gzipped archive. The kernel makes no parents: each folder must come before what it holds."""
    archive = bytearray()
    for inode, entry in enumerate(entries, start=1):
        archive += _member(inode, entry)
    archive += _member(0, Entry(_TRAILER, 0))
    # Level 6 is within 2 % of the best, in half its time.
    return gzip.compress(bytes(archive), compresslevel=6, mtime=0)


def _member(inode: int, entry: Entry) -> bytes:
    """Header of 13 fields of 8 hexadecimal digits, name, content; name and content padded to 4 bytes."""
    name = entry.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    owner, modified, archive_device, checksum = 0, 0, 0, 0
    fields = (
        inode, entry.mode, owner, owner, links, modified, len(entry.content),
        archive_device, archive_device, *entry.device, len(name), checksum,
    )  # fmt: skip
    header = _MAGIC + b"".join(b"%08X" % field for field in fields)
    return _pad(header + name) + _pad(entry.content)


def _pad(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
