"""Retries at the edges between services, for idempotent calls and errors that say they may pass."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina

from core.errors import CirraError

T = TypeVar("T")


def is_retryable(error: Exception) -> bool:
    """Whether the same call may succeed later, unchanged."""
    return isinstance(error, CirraError) and error.retryable


async def retried(
    call: Callable[[], Awaitable[T]],
    *,
    attempts: int | None = 6,
    timeout_s: float | None = 20.0,
    wait_initial_s: float = 0.1,
    wait_max_s: float = 2.0,
) -> T:
    """Await *call()*, again while it raises retryable errors: at most *attempts* times and for *timeout_s*.

    *call* must be idempotent: a write names its `request_id` or an id that the caller chose. The last error is raised.
    """
    context = stamina.retry_context(
        on=is_retryable,
        attempts=attempts,
        timeout=timeout_s,
        wait_initial=wait_initial_s,
        wait_max=wait_max_s,
        wait_jitter=wait_initial_s,
    )
    async for attempt in context:
        with attempt:
            return await call()
    raise AssertionError("stamina ends with a result or an error")
