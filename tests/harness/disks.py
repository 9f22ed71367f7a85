"""Disk images for tests, made by qemu-img and then damaged or made hostile by hand."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

MIB = 1024 * 1024


def qcow2(path: Path, *, size_mib: int = 8, data_mib: int = 2) -> bytes:
    """A qcow2 image that stands alone, with some data in it."""
    raw = path.with_suffix(".raw")
    raw.write_bytes(bytes(range(256)) * (data_mib * MIB // 256) + b"\0" * ((size_mib - data_mib) * MIB))
    _run("convert", "-f", "raw", "-O", "qcow2", str(raw), str(path))
    return path.read_bytes()


def sparse_qcow2(path: Path, *, size_gib: int) -> Path:
    """A small file of an empty disk."""
    _run("create", "-f", "qcow2", str(path), f"{size_gib}G")
    return path


def with_backing_file(path: Path) -> bytes:
    """An overlay whose header names a file of the host."""
    base = path.with_suffix(".base")
    qcow2(base)
    _run("create", "-f", "qcow2", "-b", str(base), "-F", "qcow2", str(path))
    return path.read_bytes()


def with_data_file(path: Path) -> bytes:
    """An image whose data is in a file of the host."""
    _run("create", "-f", "qcow2", "-o", f"data_file={path.with_suffix('.data')},data_file_raw=on", str(path), "8M")
    return path.read_bytes()


def vmdk(path: Path) -> bytes:
    _run("create", "-f", "vmdk", str(path), "8M")
    return path.read_bytes()


def patched(data: bytes, offset: int, form: str, value: int) -> bytes:
    """The bytes with one big-endian number replaced."""
    size = struct.calcsize(f">{form}")
    return data[:offset] + struct.pack(f">{form}", value) + data[offset + size :]


def _run(*arguments: str) -> None:
    subprocess.run(["qemu-img", *arguments], check=True, stdout=subprocess.DEVNULL)
