"""Whether what this host's records say of its network is of its present boot.

What a host was told before its last boot may be another's by now: nothing is made of it before the desired state was
heard again. It was heard, if by this agent or by one before it since the host booted: so an agent that starts while
the control plane is away, or the bus, heals by its records like the one that it follows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from net_agent.drivers.linux.files import read_text, replace_text


class Freshness:
    """file: keeps the id of the boot in which the desired state was heard last. Not in the state folder, which may be
    the empty mount point below it."""

    def __init__(self, file: Path, boot_id: str) -> None:
        self._file = file
        self._boot_id = boot_id
        self._fresh = asyncio.Event()
        if read_text(file).strip() == boot_id:
            self._fresh.set()

    async def wait(self) -> None:
        """Returns once the records are of this boot."""
        await self._fresh.wait()

    async def keep(self, heard: Callable[[], Awaitable[None]]) -> None:
        """For ever: notes it once *heard*, that the desired state was heard, returns."""
        await heard()
        await asyncio.to_thread(replace_text, self._file, f"{self._boot_id}\n")
        self._fresh.set()
        await asyncio.Event().wait()
