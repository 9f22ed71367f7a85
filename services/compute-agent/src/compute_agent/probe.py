"""Which guests this host really runs. /dev/kvm can exist and not run any, so a guest of 512 octets is booted.

The guest (probe_guest.s) goes the way of every kernel, through protected to long mode, and in the end writes one octet
to QEMU's isa-debug-exit device; QEMU then exits with `(octet << 1) | 1`. Whatever exits with another code, or not
within the time, does not run guests.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog

from compute_agent.files import write_atomically

KVM_DEVICE = Path("/dev/kvm")
QEMU = "qemu-system-x86_64"
# A host that has just come up is busy, and one without the types that it has takes no guest.
TIMEOUT_S = 15.0
_OCTET = 0x2A
_EXIT_CODE = _OCTET << 1 | 1
_EXIT_PORT = 0xF4
# What QEMU says when the guest has met an instruction that KVM can't execute; it then waits for ever.
_GIVEN_UP = b"KVM internal error"

# probe_guest.s, assembled; its zeros at the end and the BIOS's signature are added.
BOOT_SECTOR = (
    bytes.fromhex(
        """
        fafc31c08ed88ec08ed0bc007c66bf00100000b9000c6631c066f3ab66c70600100320000066c70600200330000066c7
        060030830000000f0116d87c0f011ede7c0f20c00c010f22c0ea4e7c080066b810008ed88ed0bc007c0000cd00b80010
        00000f22d80f20e00c200f22e0b9800000c00f3280cc010f300f20c00d000000800f22c0ea8c7c00001800cf0f011c25
        e47c0000cd00b02ae6f4f4ebfd48cf900000000000000000ffff0000009acf00ffff00000092cf00ffff0000009aaf00
        8b7c0800008e00009d7c1800008e000000000000000000001f00a07c00000700c07c00000f00c87c
        """
    ).ljust(510, b"\0")
    + b"\x55\xaa"
)

# What decides about an accelerator besides "-accel": a guest under KVM gets the host's processor.
_ARGUMENTS = {"kvm": ("-accel", "kvm", "-cpu", "host"), "qemu": ("-accel", "tcg", "-cpu", "qemu64")}

log = structlog.get_logger(__name__)

Boots = Callable[[str], Awaitable[bool]]
"""Does a guest of this type ("kvm", "qemu") boot?"""


async def virt_types(*, kvm_device: Path = KVM_DEVICE, boots: Boots | None = None) -> list[str]:
    """The types of guests that boot here, best first."""
    boots = boots or boots_guest
    candidates = ["kvm", "qemu"] if await asyncio.to_thread(kvm_device.exists) else ["qemu"]
    return [virt_type for virt_type in candidates if await boots(virt_type)]


async def cached_virt_types(
    cache: Path, boot_id: str, probe: Callable[[], Awaitable[list[str]]] = virt_types
) -> list[str]:
    """`virt_types`, once for each boot of the host and version of QEMU's program; `cache` is the file that knows.

    That nothing boots is not remembered: it may have been a matter of the moment.
    """
    key = {"boot_id": boot_id, "qemu": _identity_of_qemu()}
    known = _read(cache)
    if known is not None and known["key"] == key:
        return list(known["virt_types"])
    found = await probe()
    log.info("guests probed", virt_types=found)
    if found:
        await asyncio.to_thread(write_atomically, cache, json.dumps({"key": key, "virt_types": found}) + "\n")
    return found


async def boots_guest(virt_type: str) -> bool:
    """Boots the guest of the module's docstring. False also when QEMU is not installed."""
    with tempfile.NamedTemporaryFile(prefix="cirra-probe-") as disk:
        disk.write(BOOT_SECTOR)
        disk.flush()
        code = await _exit_code(
            *(QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc", "-m", "16"),
            *_ARGUMENTS[virt_type],
            *("-device", f"isa-debug-exit,iobase={_EXIT_PORT:#x},iosize=1"),
            *("-drive", f"file={disk.name},format=raw,if=ide,snapshot=on"),
        )
    if code != _EXIT_CODE:
        log.warning("probe guest did not run", virt_type=virt_type, exit_code=code)
    return code == _EXIT_CODE


async def _exit_code(*argv: str) -> int | None:
    """The exit code of a command; None when it can't be run or takes too long, and is killed."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError:
        return None
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await _end_of(process)
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _end_of(process: asyncio.subprocess.Process) -> int | None:
    """Reads what QEMU says until it ends, or says that it will not."""
    assert process.stderr is not None
    async for line in process.stderr:
        if _GIVEN_UP in line:
            return None
    return await process.wait()


def _identity_of_qemu() -> list[str | int]:
    path = shutil.which(QEMU)
    if path is None:
        return []
    status = os.stat(path)
    return [path, status.st_size, status.st_mtime_ns]


def _read(cache: Path) -> dict[str, Any] | None:
    if not cache.exists():
        return None
    known: dict[str, Any] = json.loads(cache.read_text())
    return known
