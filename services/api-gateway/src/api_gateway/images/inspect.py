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
from core.errors import Unavailable

_log = structlog.get_logger(__name__)
GIB = 1024**3
_MAX_OUTPUT_BYTES = 4 * 1024**2
_BEYOND_THE_END = "exceeding the end of the file"
# Ends that say nothing of the image: somebody killed it (or the kernel did, for want of memory), or prlimit(1) could
# not begin it (126, 127). A limit that an image makes it run into ends it otherwise: by SIGXCPU, SIGXFSZ or SIGABRT.
_NOT_ITS_OWN_END = frozenset({-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP, 126, 127})


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


@dataclass(frozen=True, slots=True)
class _Answer:
    """Of qemu-img: the JSON that it printed, and its messages."""

    found: dict[str, Any]
    errors: str


async def inspect(path: Path, disk_format: str, limits: Limits) -> Inspected:
    """Lets pass what stands alone, is what it was declared to be ("qcow2", "raw"), and is whole.

    Raises ImageRefused.
    """
    await asyncio.to_thread(check_beginning, path, disk_format, limits)
    info = (await _qemu_img("info", path, disk_format, limits, accept=(0,))).found
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
    answer = await _qemu_img("check", path, "qcow2", limits, accept=(0, 2, 3))
    found = answer.found
    if found.get("corruptions") or found.get("check-errors"):
        reason = TRUNCATED if _BEYOND_THE_END in answer.errors else IS_CORRUPT
        raise ImageRefused(reason, f"{found.get('corruptions', 0)} of its clusters are damaged or missing")


async def _qemu_img(command: str, path: Path, disk_format: str, limits: Limits, accept: tuple[int, ...]) -> _Answer:
    """Runs qemu-img under its limits.

    Raises ImageRefused when it fails, crashes, uses up its time, or has too much to say; Unavailable when this machine
    is the reason that it tells nothing: that says nothing of the image.
    """
    process = await asyncio.create_subprocess_exec(
        "prlimit",
        f"--as={limits.memory_bytes}",
        f"--cpu={limits.cpu_s}:{limits.cpu_s + 5}",  # soft and hard: the soft one ends it by SIGXCPU, see below
        "--core=0",
        "--fsize=0",
        "--",
        "qemu-img",
        command,
        "--output=json",
        "-f",
        disk_format,
        "--",
        str(path),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
        start_new_session=True,
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        async with asyncio.timeout(limits.wall_s):
            output, errors = await asyncio.gather(_all_of(process.stdout), _all_of(process.stderr))
            await process.wait()
    except TimeoutError as error:
        # Its own share of that is bounded by `cpu_s`: the rest was waiting for a disk or a processor.
        raise _cut_short(command, f"it took more than {limits.wall_s:g} s") from error
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode in _NOT_ITS_OWN_END:
        raise _cut_short(command, f"it ended with {process.returncode}", errors)
    if process.returncode not in accept:
        # What it prints may name files of this machine: for the log alone.
        _log.warning("image.inspection_failed", command=command, code=process.returncode, errors=errors[:1000])
        raise ImageRefused(INSPECTION_FAILED, f"qemu-img can't read it as {disk_format}")
    return _Answer(json.loads(output), errors)


def _cut_short(command: str, what: str, errors: str = "") -> Unavailable:
    _log.error("image.inspection_cut_short", command=command, what=what, errors=errors[:1000])
    return Unavailable(
        f"the image could not be looked at: {what}",
        reason="IMAGE_INSPECTION_CUT_SHORT",
        remedy="upload it again; the gateway's log tells more",
    )


async def _all_of(stream: asyncio.StreamReader) -> str:
    """What a program prints. A hostile image could make it print for ever: then the image is refused."""
    chunks: list[bytes] = []
    size = 0
    while chunk := await stream.read(64 * 1024):
        chunks.append(chunk)
        size += len(chunk)
        if size > _MAX_OUTPUT_BYTES:
            raise ImageRefused(IS_CORRUPT, "there is no end to what is wrong with it")
    return b"".join(chunks).decode(errors="replace")
