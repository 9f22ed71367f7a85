"""The gate between bytes from elsewhere and QEMU: what an image is, before anything uses it as a base."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from compute_agent.errors import image_unsafe
from compute_agent.images import qcow2, qemu_img

FORMATS = ("qcow2", "raw")


async def inspect(path: Path, disk_format: str) -> int:
    """The virtual size in octets of an image that is safe to read as `disk_format`.

    Raises `AgentFailure` IMAGE_UNSAFE: another format, a damaged header, a backing file, a data file.
    """
    if disk_format not in FORMATS:
        raise image_unsafe(f"disk format {disk_format!r} is not one of {', '.join(FORMATS)}")
    if disk_format == "raw":
        return os.stat(path).st_size
    try:
        header = await asyncio.to_thread(qcow2.read_header, path)
    except ValueError as error:
        raise image_unsafe(str(error)) from error
    if header.backing_file is not None:
        raise image_unsafe("it has a backing file")
    if header.data_file:
        raise image_unsafe("it has an external data file")
    # The header names no other file, so QEMU may open it; it knows more ways in which an image can be damaged.
    virtual_size: int = (await qemu_img.info(path, disk_format))["virtual-size"]
    return virtual_size
