"""Walks a path: all hops at once, each with a time limit of its own, told in order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from net_agent.diagnosis.finding import Finding, unknown
from net_agent.diagnosis.path import GuestPath
from net_agent.diagnosis.table import Hop

_log = structlog.get_logger(__name__)


async def walk(path: GuestPath, hops: Sequence[Hop]) -> list[tuple[Hop, Finding]]:
    """What was found at each; one that can't be looked at is unknown, and keeps no other from being told."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_look(path, hop), name=hop.name) for hop in hops]
        return [(hop, task.result()) for hop, task in zip(hops, tasks, strict=True)]
    finally:
        await path.close()


async def _look(path: GuestPath, hop: Hop) -> Finding:
    try:
        async with asyncio.timeout(hop.limit_s):
            return await hop.check(path)
    except TimeoutError:
        return unknown("TIMED_OUT", f"it was not known within {hop.limit_s:g} s")
    except Exception as error:
        # Whatever it is, who asked has use for the other hops; on the bus it would be tried again, in vain.
        _log.exception("hop not seen", hop=hop.name, port=path.port.port_id)
        return unknown("NOT_SEEN", f"it could not be looked at: {error!r}")
