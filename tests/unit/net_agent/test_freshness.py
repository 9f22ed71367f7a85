"""A host's records are of its present boot, once the desired state was heard in it, by whatever agent."""

from __future__ import annotations

import asyncio
from pathlib import Path

from net_agent.freshness import Freshness


async def is_fresh(freshness: Freshness) -> bool:
    waiting = asyncio.create_task(freshness.wait())
    await asyncio.sleep(0)
    done = waiting.done()
    waiting.cancel()
    return done


async def test_what_was_heard_in_this_boot_is_fresh_for_the_next_agent_too(tmp_path: Path) -> None:
    file, heard = tmp_path / "heard", asyncio.Event()
    first = Freshness(file, "boot-1")

    async def hear() -> None:
        await heard.wait()

    keeping = asyncio.create_task(first.keep(hear))
    assert not await is_fresh(first) and not await is_fresh(Freshness(file, "boot-1"))
    heard.set()
    async with asyncio.timeout(60):
        await first.wait()
    assert await is_fresh(Freshness(file, "boot-1")) and not keeping.done()
    assert not await is_fresh(Freshness(file, "boot-2")), "the host has booted since"
    keeping.cancel()
