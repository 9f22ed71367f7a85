"""Our own heartbeats, sent to ourselves through each NATS server: while they don't arrive, the silence is ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import nats.errors
import structlog
from nats.aio.client import Client

from cirra.agent.v1 import desired_pb2 as agent
from core.bus import Bus

COMPONENT = "canary"

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Path:
    """The way through one server. `server`: its name, once it was reached. `dials`: how often it was."""

    url: str
    server: str = ""
    dials: int = 0
    last_heard: float = float("-inf")


class Canaries:
    """Sent over a connection of their own to each server, heard over the one that hears everybody.

    `name`: tells ours from those of other replicas.
    """

    def __init__(self, bus: Bus, *, name: str, every_s: float, patience_s: float, monotonic: Callable[[], float]):
        self._bus = bus
        self._name = name
        self._every_s = every_s
        self._patience_s = patience_s
        self._monotonic = monotonic
        self._paths = {f"{name}-{number}": _Path(url) for number, url in enumerate(bus.servers)}

    def came_back(self, canary: agent.Heartbeat) -> None:
        """Takes in a canary, ours or another's."""
        path = self._paths.get(canary.instance)
        if path is not None:
            path.last_heard = self._monotonic()

    def hearing(self) -> bool:
        """Whether any of them comes back."""
        return any(self._comes_back(path) for path in self._paths.values())

    def way(self, server: str) -> Hashable:
        """Which connections lead through that server to our ears: others once one was lost, and None while there is
        none. Who speaks through a server that we don't know is heard if all are whom we know."""
        known = [path for path in self._paths.values() if path.server == server]
        enough, paths = (any, known) if known else (all, [*self._paths.values()])
        return tuple(path.dials for path in paths) if enough(map(self._comes_back, paths)) else None

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            for instance, path in self._paths.items():
                group.create_task(self._send_for_ever(instance, path), name=f"canary {path.url}")

    def _comes_back(self, path: _Path) -> bool:
        return self._monotonic() - path.last_heard <= self._patience_s

    async def _send_for_ever(self, instance: str, path: _Path) -> None:
        while True:
            try:
                client = await self._bus.dial(path.url)
            except (nats.errors.Error, OSError, TimeoutError):
                await asyncio.sleep(self._every_s)
                continue
            try:
                path.server, path.dials = client.server_name, path.dials + 1
                _log.info("canary path", server=path.server)
                await self._send(client, instance, path)
            finally:
                path.last_heard = float("-inf")
                await client.close()
            _log.warning("a NATS server is out of reach of the detector", server=path.server)

    async def _send(self, client: Client, instance: str, path: _Path) -> None:
        """Returns when the connection is lost."""
        subject = self._bus.subjects.service_heartbeats(COMPONENT, instance)
        canary = agent.Heartbeat(component=COMPONENT, instance=instance, nats_server=path.server).SerializeToString()
        while client.is_connected:
            try:
                await client.publish(subject, canary)
            except nats.errors.Error:
                return
            await asyncio.sleep(self._every_s)
