"""Wires the conductor: the one place where its parts meet."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog
from grpc.aio import Channel

from cirra.agent.v1.host_pb2_grpc import add_HostAgentServiceServicer_to_server
from cirra.conductor.v1 import commands_pb2_grpc as commands
from cirra.conductor.v1 import diagnosis_commands_pb2_grpc as diagnosis_commands
from cirra.conductor.v1 import placement_commands_pb2_grpc as placement_commands
from cirra.conductor.v1 import router_commands_pb2_grpc as router_commands
from cirra.conductor.v1 import security_group_commands_pb2_grpc as security_group_commands
from cirra.conductor.v1.operations_pb2_grpc import add_OperationCommandsServicer_to_server
from cirra.placement.v1.events_pb2 import HostEnrolled
from cirra.placement.v1.scheduling_pb2_grpc import SchedulingServiceStub
from conductor.compute.commands import ComputeCommands
from conductor.compute.guest_commands import GuestCommands
from conductor.compute.instance_attach_interface import INSTANCE_ATTACH_INTERFACE
from conductor.compute.instance_create import INSTANCE_CREATE
from conductor.compute.instance_delete import INSTANCE_DELETE
from conductor.compute.instance_detach_interface import INSTANCE_DETACH_INTERFACE
from conductor.compute.instance_reboot import INSTANCE_REBOOT
from conductor.compute.instance_start import INSTANCE_START
from conductor.compute.instance_stop import INSTANCE_STOP
from conductor.compute.server_group import ServerGroupCommands
from conductor.doors import authorize
from conductor.enrolment.commands import Advertised, HostCommands
from conductor.enrolment.credentials import HostCredentials
from conductor.fabric.projection import FabricProjection
from conductor.fabric.state import FabricState
from conductor.fabric.teller import Teller
from conductor.hosts.acceptance import HostAcceptance
from conductor.hosts.api import HostAgentServicer
from conductor.hosts.commander import Changes, Commander
from conductor.hosts.contents import HostContents
from conductor.hosts.desired_state import DesiredState, DesiredStateProjection
from conductor.hosts.notices import Notices
from conductor.hosts.placement_commands import PlacementCommands
from conductor.hosts.questions import Questions
from conductor.hosts.reports import FACTS, ReportHandler
from conductor.hosts.standings import Standings
from conductor.hosts.wishes import HostWishes
from conductor.identity.commands import IdentityCommands, ensure_admin, finish_deletions
from conductor.identity.passwords import PasswordCost, Passwords
from conductor.image.commands import ImageCommands
from conductor.network.commands import NetworkCommands
from conductor.network.diagnosis_commands import DiagnosisCommands
from conductor.network.floating_ip_commands import FloatingIpCommands
from conductor.network.keeper import NetworkKeeper
from conductor.network.router_commands import RouterCommands
from conductor.network.security_group_commands import SecurityGroupCommands
from conductor.network.unsettled import Unsettled
from conductor.operations.commands import OperationCommands
from conductor.operations.unfinished import UnfinishedProjection, UnfinishedSagas, runner_lease
from conductor.services import Services
from conductor.settings import ConductorSettings
from core.bus import PullLoop
from core.bus.streams import CommandConsumers, ensure_report_consumer, ensure_streams, stream_settings
from core.errors import Unavailable
from core.eventlog.connections import is_transient
from core.eventlog.types import Head
from core.natsauth.keys import AccountName, UserSigner
from core.natsauth.permissions import AGENTS
from core.pki.authority import Authority
from core.pki.identity import Identity
from core.plane import Plane, open_plane
from core.projection import EventTail, Projection, Projector
from core.relay import Relay
from core.rpc.client import channel
from core.rpc.server import Service, serve
from core.saga import Interventions, SagaEngine
from core.service import Lifetime

log = structlog.get_logger(__name__)

CONSUMER = "conductor"
RUNNER_TTL = timedelta(seconds=5)
ADOPT_EVERY_S = 1.0
CATCH_UP_S = 5.0

CANCEL_REQUESTED = "cirra.operations.v1.SagaCancelRequested"
HOST_ENROLLED = "cirra.placement.v1.HostEnrolled"


async def bootstrap(lifetime: Lifetime, settings: ConductorSettings) -> None:
    plane = await open_plane(lifetime, "conductor", settings)
    await ensure_streams(plane.bus, settings=stream_settings(settings))
    await ensure_report_consumer(plane.bus, CONSUMER, FACTS)
    relay = Relay(plane.log, plane.leases, plane.bus, holder=plane.runner, hearer=plane.events)
    lifetime.start(relay.run(), "relay")
    # Before the log is known to be whole, or a new epoch has begun, nobody is told anything by its word.
    await relay.wait_whole()

    schema = settings.schema_name("conductor")
    desired = await _projector(lifetime, plane, schema, DesiredStateProjection())
    await _projector(lifetime, plane, schema, UnfinishedProjection())
    teller = Teller(plane.bus)
    lifetime.start(teller.run(), "fabric teller")
    fabric = await _projector(lifetime, plane, schema, FabricProjection(teller))
    desired_state = DesiredState(plane.log.pool, schema, settings.schema_name("log"))
    contents = HostContents(plane.log.pool, schema)
    await contents.prepare()

    caught_up = _catching_up(plane, desired)
    placement = channel(settings.placement_addresses, plane.tls, server=Identity.service("placement"))
    lifetime.on_stop(placement.close, "placement channel")
    services = await _services(plane, desired_state, caught_up, placement)
    consumers = CommandConsumers(plane.bus)
    keeper = NetworkKeeper(
        plane.repository,
        plane.leases,
        Unsettled(plane.log.pool, schema),
        _facts_known(plane, fabric),
        tell=Notices(services.commander, services.standings),
        holder=plane.runner,
    )
    engine = await _start_engine(lifetime, settings, plane, services, consumers, keeper)
    lifetime.start(keeper.run(), "network keeper")
    for host in await desired_state.hosts():
        consumers.expect(host, AGENTS)
    lifetime.start(consumers.run(), "command consumers")
    lifetime.start(_reports(plane, services).run(), "reports")

    passwords = Passwords(PasswordCost(settings.password_time_cost, settings.password_memory_kib))
    await ensure_admin(plane.repository, passwords, settings.admin_password_file.read_text().strip())
    await finish_deletions(plane.repository)

    acceptance = HostAcceptance(desired_state, contents, services.placement, caught_up)
    wishes = HostWishes(desired_state, FabricState(plane.log.pool, schema))
    agents = _host_agents(settings, plane, wishes, contents, _catching_up(plane, desired, fabric))
    doors: list[Service] = [
        *_commands(settings, plane, engine, services, Questions(plane.bus, desired_state), passwords),
        (commands.add_HostCommandsServicer_to_server, _host_commands(settings, plane, acceptance, services, consumers)),
        (placement_commands.add_PlacementCommandsServicer_to_server, PlacementCommands(placement)),
        (add_HostAgentServiceServicer_to_server, agents),
    ]
    server = await serve(doors, listen=settings.listen, tls=plane.tls, authorize=authorize)
    lifetime.on_stop(server.stop, "server")
    lifetime.ready(grpc=server.address, runner=plane.runner)


async def _services(
    plane: Plane,
    desired_state: DesiredState,
    caught_up: Callable[[], Awaitable[Head]],
    placement: Channel,
) -> Services:
    """What sagas and reports work with."""
    standings = Standings(
        desired_state.standing,
        life=lambda: plane.log.connections,
        monotonic=time.monotonic,
        caught_up=caught_up,
    )
    return Services(
        repository=plane.repository,
        commander=Commander(plane.bus),
        changes=Changes((await plane.log.head()).epoch),
        standings=standings,
        placement=SchedulingServiceStub(placement),
    )


def _commands(
    settings: ConductorSettings,
    plane: Plane,
    engine: SagaEngine,
    services: Services,
    questions: Questions,
    passwords: Passwords,
) -> list[Service]:
    """The doors by which the gateway changes what users own."""
    return [
        (commands.add_IdentityCommandsServicer_to_server, IdentityCommands(plane.repository, passwords)),
        (
            commands.add_ComputeCommandsServicer_to_server,
            ComputeCommands(plane.repository, engine, questions=questions),
        ),
        (commands.add_GuestCommandsServicer_to_server, GuestCommands(plane.repository)),
        (commands.add_ImageCommandsServicer_to_server, ImageCommands(plane.repository)),
        (router_commands.add_RouterCommandsServicer_to_server, RouterCommands(plane.repository)),
        (router_commands.add_FloatingIpCommandsServicer_to_server, FloatingIpCommands(plane.repository)),
        (
            diagnosis_commands.add_DiagnosisCommandsServicer_to_server,
            DiagnosisCommands(plane.repository, questions),
        ),
        (
            commands.add_NetworkCommandsServicer_to_server,
            NetworkCommands(
                plane.repository, segments=settings.segments, tell=Notices(services.commander, services.standings)
            ),
        ),
        (
            security_group_commands.add_SecurityGroupCommandsServicer_to_server,
            SecurityGroupCommands(plane.repository),
        ),
        (
            add_OperationCommandsServicer_to_server,
            OperationCommands(plane.repository, Interventions(plane.repository, engine)),
        ),
        (placement_commands.add_ServerGroupCommandsServicer_to_server, ServerGroupCommands(plane.repository)),
    ]


def _reports(plane: Plane, services: Services) -> PullLoop:
    """What hosts say, each object's reports one after the other."""
    return PullLoop(
        plane.bus,
        plane.bus.subjects.reports_stream,
        CONSUMER,
        ReportHandler(services, lambda: services.changes.epoch),
        ordered_by=lambda received: received.subject.rsplit(".", 1)[-1],
        ensure=lambda: ensure_report_consumer(plane.bus, CONSUMER, FACTS),
    )


def _catching_up(plane: Plane, *projectors: Projector) -> Callable[[], Awaitable[Head]]:
    async def caught_up() -> Head:
        head = await plane.log.head()
        plane.log.hurry(head.position)
        for projector in projectors:
            if not await projector.wait_for(head.position, CATCH_UP_S, epoch=head.epoch):
                raise Unavailable(f"the desired state of hosts is behind position {head.position}; try again")
        return head

    return caught_up


def _facts_known(plane: Plane, fabric: Projector) -> Callable[[int | None], Awaitable[None]]:
    """Who waits for a position of the fabric's facts, None: the log's end."""
    to_the_end = _catching_up(plane, fabric)

    async def known(position: int | None) -> None:
        if position is None:
            await to_the_end()
        elif not await fabric.wait_for(position, CATCH_UP_S):
            raise Unavailable(f"the facts of networks are behind position {position}; try again")

    return known


def _host_agents(
    settings: ConductorSettings,
    plane: Plane,
    wishes: HostWishes,
    contents: HostContents,
    caught_up: Callable[[], Awaitable[Head]],
) -> HostAgentServicer:
    return HostAgentServicer(
        plane.repository,
        wishes,
        contents,
        caught_up,
        ticket_key=base64.b64decode(settings.ticket_key_file.read_text()),
        download_url=settings.image_download_url,
        now=plane.clock.now,
    )


async def _projector(lifetime: Lifetime, plane: Plane, schema: str, projection: Projection) -> Projector:
    projector = Projector(
        projection,
        log=plane.log,
        bus=plane.bus,
        leases=plane.leases,
        schema=schema,
        holder=plane.runner,
        stream=plane.events,
    )
    await projector.prepare()
    lifetime.start(projector.run(), projection.name)
    return projector


def _host_commands(
    settings: ConductorSettings,
    plane: Plane,
    acceptance: HostAcceptance,
    services: Services,
    consumers: CommandConsumers,
) -> HostCommands:
    return HostCommands(
        plane.repository,
        credentials=HostCredentials(
            authority=Authority.load(settings.ca_directory, now=plane.clock.now),
            signer=UserSigner.load(settings.nats_keys_directory, AccountName.HOSTS),
            cell=settings.cell,
            metadata_key=base64.b64decode(settings.metadata_key_file.read_text()),
            now=plane.clock.now,
        ),
        advertised=Advertised(
            nats_urls=settings.advertised_nats_urls,
            conductor_addresses=settings.advertised_conductor_addresses,
            metadata_url=settings.metadata_url,
            image_download_url=settings.image_download_url,
        ),
        consumers=consumers,
        placement=services.placement,
        acceptance=acceptance,
        clock=lambda: plane.log.pool.fetchval("SELECT clock_timestamp()"),
    )


async def _start_engine(
    lifetime: Lifetime,
    settings: ConductorSettings,
    plane: Plane,
    services: Services,
    consumers: CommandConsumers,
    keeper: NetworkKeeper,
) -> SagaEngine:
    """The engine, with its lease held: before that, another replica would take its sagas for orphans."""
    leased = asyncio.Event()
    engine = SagaEngine(
        plane.repository,
        (
            INSTANCE_CREATE,
            INSTANCE_DELETE,
            INSTANCE_START,
            INSTANCE_STOP,
            INSTANCE_REBOOT,
            INSTANCE_ATTACH_INTERFACE,
            INSTANCE_DETACH_INTERFACE,
        ),
        runner=plane.runner,
        services=services,
        # Without the lease this replica, or Postgres, is cut off: nothing can be done then, nor is it late.
        bus_up=lambda: plane.bus.connected and leased.is_set(),
    )
    lifetime.on_stop(engine.stop, "sagas")
    tail = EventTail(plane.bus, plane.log, after=(await plane.log.head()).position, stream=plane.events)
    lifetime.start(_watch(tail, services, engine, consumers, keeper), "changes")
    lifetime.start(_keep_runner_lease(plane, leased), "runner lease")
    await leased.wait()
    unfinished = UnfinishedSagas(
        plane.log.pool, settings.schema_name("conductor"), settings.schema_name("log"), plane.runner
    )
    lifetime.start(_adopt(engine, unfinished), "adoption")
    return engine


async def _watch(
    tail: EventTail, services: Services, engine: SagaEngine, consumers: CommandConsumers, keeper: NetworkKeeper
) -> None:
    """Wakes what waits for an aggregate, interrupts what is cancelled, keeps consumers for hosts that enrol."""
    async for event in tail:
        services.repository.remembered.happened(event)
        services.changes.happened(event)
        services.standings.happened(event)
        keeper.happened(event)
        if event.type == CANCEL_REQUESTED:
            engine.cancel_requested(event.aggregate_id)
        elif event.type == HOST_ENROLLED:
            consumers.expect(HostEnrolled.FromString(event.data).host, AGENTS)


async def _keep_runner_lease(plane: Plane, leased: asyncio.Event) -> None:
    """Says that this replica is alive. Lost: others adopt its sagas, and the log refuses its appends to them."""
    while True:
        async with plane.leases.hold(runner_lease(plane.runner), plane.runner, RUNNER_TTL) as held:
            leased.set()
            await held.lost.wait()
            leased.clear()
        log.warning("the runner's lease was lost", runner=plane.runner)


async def _adopt(engine: SagaEngine, unfinished: UnfinishedSagas) -> None:
    while True:
        await asyncio.sleep(ADOPT_EVERY_S)
        try:
            adopted = await engine.adopt(unfinished)
        except Exception as error:
            if is_transient(error):
                log.warning("no look for orphaned sagas while Postgres is away", error=repr(error))
            else:
                log.exception("could not look for orphaned sagas; looking again")
            continue
        if adopted:
            log.info("sagas adopted", count=adopted)
