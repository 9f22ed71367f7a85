"""Inspection of uploaded data, which is hostile until shown otherwise.

First by ourselves: the magic bytes, and the whole qcow2 header. Then by qemu-img, told the declared format, so that it
never guesses, and held to limits of time and memory.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from api_gateway.images.errors import (
    FORMAT_MISMATCH,
    HAS_BACKING_FILE,
    HAS_DATA_FILE,
    INSPECTION_FAILED,
    IS_CORRUPT,
    IS_ENCRYPTED,
    TOO_LARGE,
    TRUNCATED,
    ImageRefused,
)
from api_gateway.images.formats import DETECTION_BYTES, detected
from api_gateway.images.qcow2 import HEADER_BYTES, check_header, parse_header

_log = structlog.get_logger(__name__)
GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Limits:
    """Of an image, and of the programs that look at it."""

    virtual_size_bytes: int
    memory_bytes: int = GIB
    cpu_s: int = 30
    wall_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Inspected:
    virtual_size_bytes: int


async def inspect(path: Path, disk_format: str, limits: Limits) -> Inspected:
    """Lets pass what stands alone, is what it was declared to be ("qcow2", "raw"), and is whole.

    Raises ImageRefused.
    """
    await asyncio.to_thread(check_beginning, path, disk_format, limits)
    info = await _qemu_img(["info", "--output=json", "-f", disk_format, "--", str(path)], limits)
    _check_info(info, disk_format)
    virtual_size = int(info["virtual-size"])
    _check_size(virtual_size, limits)
    if disk_format == "qcow2":
        await _check_clusters(path, limits)
    return Inspected(virtual_size)


def check_beginning(path: Path, disk_format: str, limits: Limits) -> None:
    """What the file's first bytes tell. Raises ImageRefused."""
    with path.open("rb") as file:
        data = file.read(HEADER_BYTES)
    size = path.stat().st_size
    found = detected(data[:DETECTION_BYTES])
    if found != disk_format:
        raise ImageRefused(
            FORMAT_MISMATCH,
            f"declared as {disk_format}, the data is {found}: declare what it is, or convert it with qemu-img",
        )
    if not size:
        raise ImageRefused(TRUNCATED, "there is no data")
    if disk_format == "qcow2":
        header = parse_header(data)
        check_header(header, size)
        _check_size(header.virtual_size, limits)


def _check_info(info: dict[str, Any], disk_format: str) -> None:
    """What qemu-img has found, which must agree with what we have."""
    if info.get("format") != disk_format:
        raise ImageRefused(FORMAT_MISMATCH, f"declared as {disk_format}, qemu-img finds {info.get('format')}")
    if info.get("backing-filename") or info.get("full-backing-filename"):
        raise ImageRefused(HAS_BACKING_FILE, "it has a backing file")
    if info.get("encrypted"):
        raise ImageRefused(IS_ENCRYPTED, "it is encrypted")
    specific = info.get("format-specific", {}).get("data", {})
    if specific.get("data-file") or specific.get("data-file-raw"):
        raise ImageRefused(HAS_DATA_FILE, "its data is in another file")
    if specific.get("corrupt"):
        raise ImageRefused(IS_CORRUPT, "it is marked as corrupt")


def _check_size(virtual_size: int, limits: Limits) -> None:
    if not 0 < virtual_size <= limits.virtual_size_bytes:
        raise ImageRefused(
            TOO_LARGE,
            f"its disk has {virtual_size} bytes: give one of 1 to {limits.virtual_size_bytes} bytes",
        )


async def _check_clusters(path: Path, limits: Limits) -> None:
    """A qcow2 file whose tables point beyond its end was cut off."""
    result = await _qemu_img(["check", "--output=json", "-f", "qcow2", "--", str(path)], limits, accept=(0, 2, 3))
    if result.get("corruptions") or result.get("check-errors"):
        size = (await asyncio.to_thread(path.stat)).st_size
        reason = TRUNCATED if int(result.get("image-end-offset", 0)) > size else IS_CORRUPT
        raise ImageRefused(reason, f"{result.get('corruptions', 0)} of its clusters are damaged or missing")


async def _qemu_img(arguments: list[str], limits: Limits, accept: tuple[int, ...] = (0,)) -> dict[str, Any]:
    """Runs qemu-img under its limits; its JSON answer. Raises ImageRefused when it fails or takes too long."""
    process = await asyncio.create_subprocess_exec(
        "prlimit",
        f"--as={limits.memory_bytes}",
        f"--cpu={limits.cpu_s}",
        "--core=0",
        "--fsize=0",
        "--",
        "qemu-img",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(limits.wall_s):
            output, errors = await process.communicate()
    except TimeoutError as error:
        raise ImageRefused(INSPECTION_FAILED, f"looking at it took more than {limits.wall_s:g} s") from error
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode not in accept:
        # What it prints may name files of this machine: for the log alone.
        _log.warning("image.inspection_failed", arguments=arguments[0], errors=errors.decode(errors="replace")[:1000])
        raise ImageRefused(INSPECTION_FAILED, f"qemu-img can't read it as {arguments[arguments.index('-f') + 1]}")
    answer: dict[str, Any] = json.loads(output)
    return answer
