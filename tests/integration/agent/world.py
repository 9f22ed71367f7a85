"""A host and a conductor for tests of the agents' runtime: real NATS, real gRPC with mTLS, a handler on a shelf."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from nats.js.errors import NotFoundError

from cirra.agent.v1 import host_pb2, host_pb2_grpc
from cirra.agent.v1.desired_pb2 import (
    DOMAIN_STATE_ABSENT,
    DOMAIN_STATE_RUNNING,
    DesiredObject,
    DomainObserved,
    Orphan,
    Report,
)
from core.agent.handler import AgentFailure, DerivedHandler
from core.agent.identity import HostIdentity
from core.agent.link import AgentLink
from core.agent.runtime import AgentRuntime
from core.agent.settings import AgentSettings
from core.bus import (
    Bus,
    PullLoop,
    Received,
    connect,
    ensure_command_consumer,
    ensure_report_consumer,
    ensure_streams,
    publish_command,
)
from core.errors import Unavailable
from core.natsauth.keys import NatsKeys
from core.pki.authority import Authority, new_key_and_request
from core.pki.files import write_private
from core.pki.identity import Identity
from core.pki.tls import TlsFiles
from core.rpc.context import require_host
from core.rpc.server import RunningServer, serve
from core.testing.servers import Cell

HOST = "h1"
PATIENCE_S = 60.0


async def until(condition: Callable[[], object], what: str) -> None:
    """Waits for a condition that other tasks bring about."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110 - there is no event for what other parts do
                await asyncio.sleep(0.01)
    except TimeoutError as error:
        raise AssertionError(f"it did not come true: {what}") from error


class Shelf:
    """A handler whose objects are names on a shelf; it notes what it was asked, and does what a test tells it to."""

    kind = "domain"

    def __init__(self) -> None:
        self.things: dict[str, int] = {}
        self.foreign: list[Orphan] = []
        # Nobody can look at it now.
        self.dark = False
        self.calls: list[tuple[str, str, int]] = []
        self.established: list[tuple[str, int]] = []
        # What keeps it from establishing, once each.
        self.unmakable: list[Exception] = []
        self.open = asyncio.Event()
        self.open.set()
        self.errors: list[Exception] = []
        self.at_once = self.most_at_once = 0

    async def establish(self, desired: DesiredObject) -> None:
        self.established.append((desired.object_id, desired.generation))
        if self.unmakable:
            raise self.unmakable.pop(0)
        self.things.setdefault(desired.object_id, 0)

    async def ensure(self, desired: DesiredObject) -> DomainObserved:
        await self._begin("ensure", desired)
        if desired.object_id not in self.things:
            raise AgentFailure("the disk is not there", reason="DISK_MISSING", remedy="mount it")
        self.things[desired.object_id] = desired.generation
        return DomainObserved(state=DOMAIN_STATE_RUNNING, disk_present=True)

    async def remove(self, desired: DesiredObject) -> DomainObserved:
        await self._begin("remove", desired)
        self.things.pop(desired.object_id, None)
        return DomainObserved(state=DOMAIN_STATE_ABSENT)

    async def look(self, object_id: str) -> DomainObserved:
        there = object_id in self.things
        return DomainObserved(state=DOMAIN_STATE_RUNNING if there else DOMAIN_STATE_ABSENT, disk_present=there)

    async def known_objects(self) -> set[str]:
        if self.dark:
            raise Unavailable("the shelf is in the dark")
        return set(self.things)

    async def strangers(self) -> list[Orphan]:
        return list(self.foreign)

    def calls_for(self, object_id: str) -> list[tuple[str, int]]:
        return [(verb, generation) for verb, each, generation in self.calls if each == object_id]

    async def _begin(self, verb: str, desired: DesiredObject) -> None:
        self.calls.append((verb, desired.object_id, desired.generation))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.open.wait()
        finally:
            self.at_once -= 1
        if self.errors:
            raise self.errors.pop(0)


class FakeConductor(host_pb2_grpc.HostAgentServiceServicer):
    """Answers GetDesiredState from a table, to the host it is for only. `contents`: what the host has told."""

    def __init__(self) -> None:
        self.position = 1
        self.table: dict[tuple[str, str], tuple[int, DesiredObject]] = {}
        self.asked: list[int] = []
        self.contents: list[host_pb2.ReportContentsRequest] = []

    def want(self, desired: DesiredObject) -> None:
        self.position += 1
        kept = DesiredObject()
        kept.CopyFrom(desired)
        kept.create = False
        self.table[desired.kind, desired.object_id] = (self.position, kept)

    def forget(self, desired: DesiredObject) -> None:
        del self.table[desired.kind, desired.object_id]

    async def GetDesiredState(
        self, request: host_pb2.GetDesiredStateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> host_pb2.GetDesiredStateResponse:
        require_host(request.host)
        self.asked.append(request.since)
        objects = [desired for position, desired in self.table.values() if position > request.since]
        return host_pb2.GetDesiredStateResponse(objects=objects, position=self.position, complete=request.since == 0)

    async def ReportContents(
        self, request: host_pb2.ReportContentsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> host_pb2.ReportContentsResponse:
        require_host(request.host)
        self.contents.append(request)
        return host_pb2.ReportContentsResponse()


@dataclass
class RunningAgent:
    link: AgentLink
    runtime: AgentRuntime
    task: asyncio.Task[None]

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.link.close()


@dataclass
class World:
    """One cell with a conductor, its streams, and host `h1`."""

    cell: Cell
    authority: Authority
    folder: Path
    bus: Bus
    conductor: FakeConductor = field(default_factory=lambda: FakeConductor())  # type: ignore[abstract]
    reports: list[tuple[Report, Received]] = field(default_factory=list)
    agents: list[RunningAgent] = field(default_factory=list)
    server: RunningServer | None = None
    collector: asyncio.Task[None] | None = None

    @classmethod
    async def make(cls, cell_name: str, nats_url: str, keys: NatsKeys, authority: Authority, folder: Path) -> World:
        cell = Cell(cell_name, "", nats_url, keys, folder)
        bus = await connect(nats_url, cell=cell_name, name="conductor", credentials=cell.credentials)
        world = cls(cell, authority, folder, bus)
        await ensure_streams(bus)
        await ensure_command_consumer(bus, HOST, ("compute",))
        await ensure_report_consumer(bus, "test")
        loop = PullLoop(bus, bus.subjects.reports_stream, "test", world._collect)
        world.collector = asyncio.create_task(loop.run())
        await world.start_conductor()
        (folder / "boot_id").write_text("boot-1\n")
        return world

    async def close(self) -> None:
        for agent in self.agents:
            await agent.stop()
        if self.collector is not None:
            self.collector.cancel()
            await asyncio.gather(self.collector, return_exceptions=True)
        await self.stop_conductor()
        subjects = self.bus.subjects
        for stream in (
            subjects.events_stream,
            subjects.commands_stream,
            subjects.reports_stream,
            subjects.dead_letters_stream,
        ):
            with suppress(NotFoundError):
                await self.bus.js.delete_stream(stream)
        await self.bus.close()

    async def start_conductor(self) -> None:
        tls = self.authority.issue_server("conductor", [], self.folder / "conductor-tls")
        listen = (self.folder / "conductor-address").read_text() if self.server else "127.0.0.1:0"
        add = host_pb2_grpc.add_HostAgentServiceServicer_to_server
        self.server = await serve([(add, self.conductor)], listen=listen, tls=tls, require_client=True)
        (self.folder / "conductor-address").write_text(self.server.address)

    async def stop_conductor(self) -> None:
        if self.server is not None:
            await self.server.stop(0)

    def identity(self, host: str = HOST) -> HostIdentity:
        """The folder that enrolment would have made."""
        folder = self.folder / f"host-{host}"
        if not (folder / "host.json").exists():
            key, request = new_key_and_request(Identity.host(host))
            certificate = self.authority.sign_csr(request, Identity.host(host))
            TlsFiles.write(folder, self.authority.certificate_pem, certificate, key)
            write_private(folder / "nats.creds", self.cell.credentials_of(Identity.host(host)).read_bytes())
            address = (self.folder / "conductor-address").read_text()
            HostIdentity(
                folder=folder,
                host=host,
                cell=self.cell.name,
                nats_urls=(self.cell.nats_url,),
                conductor_addresses=(address,),
                metadata_url="",
                image_download_url="",
                availability_zone="az1",
            ).save()
        return HostIdentity.load(folder)

    async def start_agent(self, shelf: Shelf | DerivedHandler, **options: Any) -> RunningAgent:
        """Start the compute-agent of `h1` with *shelf*; options of settings and of AgentRuntime."""
        runtime_options = {
            name: options.pop(name) for name in ("inventory", "background", "readers") if name in options
        }
        settings = AgentSettings(
            boot_id_file=self.folder / "boot_id",
            **{"difference_interval_s": 60.0, "heartbeat_interval_s": 0.1, **options},
        )
        link = await AgentLink.open(self.identity(), "compute", settings)
        runtime = AgentRuntime(link, handlers=[shelf], **runtime_options)
        agent = RunningAgent(link, runtime, asyncio.create_task(runtime.run()))
        self.agents.append(agent)
        return agent

    async def command(
        self, desired: DesiredObject, headers: dict[str, str] | None = None, *, verb: str = "EnsureDomain"
    ) -> int:
        return await publish_command(self.bus, desired.host, desired.agent, verb, desired.object_id, desired, headers)

    def reports_on(self, object_id: str) -> list[Report]:
        return [report for report, _ in self.reports if report.object_id == object_id]

    def received_on(self, object_id: str) -> list[Received]:
        """The messages that the reports on an object came in."""
        return [received for report, received in self.reports if report.object_id == object_id]

    async def until_reported(self, object_id: str, generation: int, count: int = 1) -> Report:
        """The last of *count* reports about the object at that generation."""

        def found() -> list[Report]:
            return [report for report in self.reports_on(object_id) if report.generation == generation]

        await until(lambda: len(found()) >= count, f"{count} reports on {object_id} at {generation}")
        return found()[-1]

    async def unacknowledged(self) -> int:
        """Commands for the host that are not yet acknowledged, delivered or not."""
        info = await self.bus.js.consumer_info(self.bus.subjects.commands_stream, f"{HOST}--compute")
        return (info.num_ack_pending or 0) + (info.num_pending or 0)

    async def until_acknowledged(self, *, but: int = 0) -> None:
        """Returns once all commands are acknowledged, but for so many of them."""
        async with asyncio.timeout(PATIENCE_S):
            while await self.unacknowledged() > but:  # noqa: ASYNC110 - only the server knows
                await asyncio.sleep(0.02)

    async def _collect(self, received: Received) -> None:
        self.reports.append((received.decode(Report), received))


def domain(object_id: str, generation: int, *, absent: bool = False, create: bool = False) -> DesiredObject:
    return DesiredObject(
        host=HOST,
        agent="compute",
        kind="domain",
        object_id=object_id,
        generation=generation,
        absent=absent,
        create=create,
    )
