"""Frames of a guest's own making, and what another guest hears: `frames.c`, put into tiny guests."""

from __future__ import annotations

import asyncio
import base64
import subprocess
from pathlib import Path

from tests.e2e.network.guests import Guest

_SOURCE = Path(__file__).with_name("frames.c")
_OPTIONS = (
    *("-static", "-nostdlib", "-nostartfiles", "-ffreestanding", "-fno-stack-protector", "-Os", "-Wall", "-Werror"),
    "-Wl,--build-id=none,-z,noseparate-code,-s",
)
_PROGRAM, _HEARD = "/run/frames", "/run/heard"


async def install(folder: Path, *guests: Guest) -> None:
    """*folder*: where the program is made."""
    made = folder / "frames"
    await asyncio.to_thread(subprocess.run, ["gcc", *_OPTIONS, "-o", str(made), str(_SOURCE)], check=True, timeout=60)
    text = base64.b64encode(made.read_bytes()).decode()
    for guest in guests:
        await guest.run(f"echo {text} | base64 -d >{_PROGRAM} && chmod +x {_PROGRAM}")


async def listen(guest: Guest) -> None:
    """From here on, until the guest ends."""
    await guest.run(f"{_PROGRAM} >{_HEARD} 2>&1 </dev/null &")
    # Its own question for the time of day is heard before anybody else's frame.
    await guest.run(f"until [ -s {_HEARD} ]; do ping -c 1 -W 1 169.254.169.254 >/dev/null; done")


async def send(guest: Guest, frame: bytes) -> None:
    """By its first NIC. The guest's own kernel lets it pass, or this fails."""
    text = base64.b64encode(frame).decode()
    await guest.run(f"echo {text} | base64 -d | {_PROGRAM} $(cat /sys/class/net/eth0/ifindex)")


async def heard(guest: Guest, mark: str) -> bool:
    """The question itself comes in a frame, and must not have the mark in it: "[m]ark" matches "mark"."""
    found = await guest.ended(f"grep -a -q '[{mark[0]}]{mark[1:]}' {_HEARD}")
    assert found.code in (0, 1), f"nobody listens in {guest.instance.display_name}: {found}"
    return found.code == 0
