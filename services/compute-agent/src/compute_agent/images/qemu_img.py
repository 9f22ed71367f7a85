"""Calls of qemu-img: always with explicit formats, bounded in time, memory and processor."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from compute_agent.errors import command_failed

_TIMEOUT_S = 60.0
# Images are hostile: a damaged one must not eat the host (CVE-2015-5162). Octets of address space, seconds.
_LIMITS = ("prlimit", "--as=1073741824", "--cpu=20", "--")


async def create_overlay(disk: Path, base: Path, base_format: str, size_bytes: int) -> None:
    """Makes the qcow2 file `disk` of `size_bytes` on top of `base`; replaces nothing that is there.

    Complete or absent: it is made under another name first.
    """
    draft = disk.with_name(disk.name + ".new")
    draft.unlink(missing_ok=True)
    await _run(
        *("qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", base_format),
        *(str(draft), str(size_bytes)),
    )
    draft.rename(disk)


async def info(path: Path, disk_format: str) -> dict[str, Any]:
    """`qemu-img info` of an image file as the given format (its JSON), with limits on what it may use."""
    output = await _run(*_LIMITS, "qemu-img", "info", "--output=json", "-f", disk_format, str(path))
    parsed: dict[str, Any] = json.loads(output)
    return parsed


async def _run(*argv: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            stdout, stderr = await process.communicate()
    except BaseException as error:
        if process.returncode is None:
            process.kill()
            await process.wait()
        if isinstance(error, TimeoutError):
            raise command_failed(argv, f"no end after {_TIMEOUT_S:g} s") from error
        raise
    if process.returncode != 0:
        raise command_failed(argv, stderr.decode(errors="replace").strip())
    return stdout.decode()
