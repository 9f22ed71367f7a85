"""Announcements of addresses that have come to this host: several, since any one may be lost."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from ipaddress import IPv4Address

import structlog

from net_agent.drivers.linux.namespace import Namespaces
from net_agent.drivers.linux.routing.arp import announce

_log = structlog.get_logger(__name__)
# From one to the next. The host that had the address may be told later than this one that it is gone.
_PAUSES_S = (0.0, 0.5, 1.5, 3.0)


class Announcer:
    """`announce` returns at once; what it began ends by itself, or with `forget` and `close`."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces
        self._tasks: dict[asyncio.Task[None], str] = {}

    def announce(self, namespace: str, device: str, addresses: Collection[IPv4Address]) -> None:
        task = asyncio.create_task(self._repeat(namespace, device, addresses), name=f"announce {namespace}")
        self._tasks[task] = namespace
        task.add_done_callback(self._tasks.pop)

    async def forget(self, namespace: str) -> None:
        await self._cancel([task for task, name in self._tasks.items() if name == namespace])

    async def close(self) -> None:
        await self._cancel(list(self._tasks))

    async def _cancel(self, tasks: Collection[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _repeat(self, namespace: str, device: str, addresses: Collection[IPv4Address]) -> None:
        for pause_s in _PAUSES_S:
            await asyncio.sleep(pause_s)
            try:
                await self._namespaces.inside(namespace, lambda: announce(device, addresses))
            except OSError as error:
                # The interface is being made anew: it announces itself then.
                _log.info("addresses could not be announced", namespace=namespace, error=str(error))
