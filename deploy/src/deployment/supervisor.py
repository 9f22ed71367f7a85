"""The supervisor: starts everything in order, keeps it running, stops it in reverse. One per deployment."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import structlog

from core.errors import CirraError
from core.service import Lifetime
from deployment import clouds, secrets
from deployment.config import Config, reserve_port, with_ports
from deployment.enrolment import ensure_enrolled, wait_usable
from deployment.keeper import START_ERRORS, Keeper
from deployment.layout import Layout
from deployment.parts import LibvirtPart, Part, ServerPart, ServicePart
from deployment.process import find
from deployment.servers import OwnServers, own_servers, servers
from deployment.services import ServiceTable, command_names, port_names
from deployment.settings import inherited_environment
from deployment.status import PartStatus, Phase, Status

_log = structlog.get_logger(__name__)
_LEFTOVER_GRACE_S = 10.0


class AlreadyRunning(CirraError):
    """Another supervisor has this deployment."""

    reason = "ALREADY_RUNNING"


class Supervisor:
    """`bootstrap` is for `core.service.run`: it starts all parts, and registers their end."""

    def __init__(self, layout: Layout, config: Config) -> None:
        self._layout = layout
        self._config = config
        self._status = Status(os.getpid(), Phase.STARTING)

    async def bootstrap(self, lifetime: Lifetime) -> None:
        """Returns when all is up. Raises what the part that failed says; the status file says it as well."""
        lifetime.on_stop(self._stopped, "status")
        try:
            await self._start_all(lifetime)
        except START_ERRORS as error:
            self._say(Phase.FAILED, f"{error}{_remedy(error)}")
            raise
        self._say(Phase.READY)
        lifetime.ready(endpoint=self._config.ports["api-gateway-1"])

    async def _start_all(self, lifetime: Lifetime) -> None:
        self._say(Phase.STARTING)
        await end_leftovers(self._layout)
        await asyncio.to_thread(secrets.prepare, self._layout, self._config)
        own = own_servers(self._layout, self._config)
        await self._start_stage(lifetime, _server_parts(own))
        self._config = with_ports(self._config, port_names(self._config.replicas))
        self._config.save(self._layout)
        reached = servers(self._layout, self._config)
        table = ServiceTable(self._layout, self._config, reached, inherited_environment())
        clouds.write(self._layout, table.addresses.gateway[0])
        await self._start_stage(lifetime, [ServicePart(program) for program in table.control_plane()])
        await ensure_enrolled(self._layout, self._config, table.addresses, reached)
        await self._start_stage(lifetime, [ServicePart(program) for program in table.agents()])
        await wait_usable(self._layout, self._config)

    async def _start_stage(self, lifetime: Lifetime, parts: Sequence[Part]) -> None:
        """All at once; they are watched from then on, and stopped together."""
        keepers = [Keeper(part, self._part_changed) for part in parts]

        async def stop() -> None:
            await asyncio.gather(*(keeper.stop() for keeper in keepers))

        lifetime.on_stop(stop, ", ".join(part.name for part in parts))
        results = await asyncio.gather(*(keeper.start() for keeper in keepers), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        for keeper in keepers:
            lifetime.start(keeper.run(), keeper.part.name)

    def _part_changed(self, name: str, part: PartStatus) -> None:
        self._status = replace(self._status, parts={**self._status.parts, name: part})
        self._status.save(self._layout.status)

    def _say(self, phase: Phase, message: str = "") -> None:
        self._status = replace(self._status, phase=phase, message=message)
        self._status.save(self._layout.status)

    async def _stopped(self) -> None:
        # The last to be called. After a failure the file is kept: it says what failed.
        if self._status.phase is not Phase.FAILED:
            self._layout.status.unlink(missing_ok=True)


def _server_parts(own: OwnServers) -> list[Part]:
    parts: list[Part] = []
    for server in (own.postgres, own.nats):
        if server is not None:
            reserve_port(server.folder)
            parts.append(ServerPart(server))
    if own.libvirtd is not None:
        parts.append(LibvirtPart(own.libvirtd))
    return parts


async def end_leftovers(layout: Layout) -> list[int]:
    """Ends services that a killed supervisor left behind; the pids. Agents touch no guest when they end."""
    leftovers = await asyncio.to_thread(find, layout.run, command_names())
    await asyncio.gather(*(process.end(_LEFTOVER_GRACE_S) for process in leftovers))
    for pid_file in layout.run.glob("*.pid"):
        pid_file.unlink(missing_ok=True)
    return [process.pid for process in leftovers]


@contextmanager
def locked(layout: Layout) -> Iterator[None]:
    """Holds the deployment for this process; the kernel lets go when it ends. Raises AlreadyRunning."""
    with layout.lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunning(f"a supervisor of {layout.root} is running", remedy="see `make status`") from error
        yield


def is_locked(layout: Layout) -> bool:
    """Does a supervisor live?"""
    if not layout.lock.exists():
        return False
    try:
        with locked(layout):
            return False
    except AlreadyRunning:
        return True


def supervisor_pid(layout: Layout) -> int | None:
    """Of the supervisor that lives."""
    status = Status.load(layout.status)
    return status.supervisor_pid if status is not None and is_locked(layout) else None


def _remedy(error: BaseException) -> str:
    remedy = getattr(error, "remedy", "")
    return f"\n→ {remedy}" if remedy else ""


def supervisor_log(layout: Layout) -> Path:
    return layout.log("supervisor")
