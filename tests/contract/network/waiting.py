"""How long tests wait: for what should come, until it comes; for what should not, a moment.

What should come is asked for again and again, by `until` or by what asks so itself: a busy machine takes its time, and
where it comes nobody waits. What should not come is asked for once, and tells little on a machine that is slower than
the moment: so the way is shown to work before or after.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

PATIENCE_S = 30.0
IN_VAIN_S = 1.0


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float = PATIENCE_S) -> None:
    """Waits on a condition that only looking tells. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110 — the kernel and other processes are looked at, nobody tells
            await asyncio.sleep(0.02)
