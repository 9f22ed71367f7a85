"""What the agent does besides its desired state: telling what guests do by themselves, and tidying the cache."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog

from compute_agent.drivers.base import HypervisorDriver
from compute_agent.handlers.domain import DomainHandler
from compute_agent.images.cache import ImageCache
from compute_agent.instances import StateFolder
from core.agent.reporter import Reporter
from core.errors import CirraError

log = structlog.get_logger(__name__)


async def report_changes(driver: HypervisorDriver, handler: DomainHandler, reporter: Reporter) -> None:
    """Reports what happened to guests of the cloud's without its doing, at once. Runs for ever."""
    async for instance_id in driver.changes():
        try:
            seen = await handler.observe(instance_id)
        except CirraError as error:
            # All guests are named again once the hypervisor is back.
            log.warning("guest could not be observed", instance_id=instance_id, error=str(error))
            continue
        if seen is None:
            continue
        if await reporter.report(handler.kind, instance_id, seen.facts, generation=seen.generation):
            log.info("guest changed", instance_id=instance_id, state=seen.facts.state)


def _now() -> datetime:
    return datetime.now(UTC)


async def evict_images(
    images: ImageCache,
    state: StateFolder,
    *,
    unused_for: timedelta,
    interval_s: float,
    may_tidy: Callable[[], bool],
    now: Callable[[], datetime] = _now,
) -> None:
    """Evicts unused images on a timer, when it may. Runs for ever; what can't be read is logged, nothing evicted."""
    while True:
        await asyncio.sleep(interval_s)
        if not may_tidy():
            continue
        try:
            state.require()
            folders = [state.instance(instance_id).path for instance_id in state.instance_ids()]
            await images.evict(folders, unused_for=unused_for, now=now())
        except (CirraError, OSError, ValueError) as error:
            log.warning("image cache not tidied", error=str(error))
