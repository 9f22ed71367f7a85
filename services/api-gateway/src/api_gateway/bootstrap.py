"""Wires the gateway: the one place where its parts meet."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from datetime import timedelta

import grpc
import structlog

from api_gateway.api.aggregate import AggregateService
from api_gateway.api.call import Parts
from api_gateway.api.compute import ComputeService
from api_gateway.api.decisions import PlacementService
from api_gateway.api.diagnosis import DiagnosisService
from api_gateway.api.events import EventService
from api_gateway.api.floating_ip import FloatingIpService
from api_gateway.api.identity import IdentityService
from api_gateway.api.image import ImageService
from api_gateway.api.network import NetworkService
from api_gateway.api.operations import OperationService
from api_gateway.api.placement import HostService
from api_gateway.api.router import RouterService
from api_gateway.api.security_group import SecurityGroupService
from api_gateway.api.server_group import ServerGroupService
from api_gateway.auth.interceptor import authentication
from api_gateway.auth.tokens import Tokens, load_key
from api_gateway.auth.validity import Validity
from api_gateway.conductor import Conductor
from api_gateway.events.feed import Feed
from api_gateway.images.blobs import Blobs, sweep_forever
from api_gateway.images.download import download_app
from api_gateway.images.inspect import Limits
from api_gateway.images.upload import Uploads
from api_gateway.settings import GatewaySettings
from api_gateway.views.image import IMAGE
from api_gateway.views.projection import GatewayProjection
from api_gateway.views.store import Query, Store
from cirra.compute.v1.compute_pb2_grpc import add_ComputeServiceServicer_to_server
from cirra.compute.v1.server_group_pb2_grpc import add_ServerGroupServiceServicer_to_server
from cirra.events.v1.events_pb2_grpc import add_EventServiceServicer_to_server
from cirra.identity.v1.identity_pb2_grpc import add_IdentityServiceServicer_to_server
from cirra.image.v1.image_pb2_grpc import add_ImageServiceServicer_to_server
from cirra.network.v1.diagnosis_pb2_grpc import add_DiagnosisServiceServicer_to_server
from cirra.network.v1.floating_ip_pb2_grpc import add_FloatingIpServiceServicer_to_server
from cirra.network.v1.network_pb2_grpc import add_NetworkServiceServicer_to_server
from cirra.network.v1.router_pb2_grpc import add_RouterServiceServicer_to_server
from cirra.network.v1.security_group_pb2_grpc import add_SecurityGroupServiceServicer_to_server
from cirra.operations.v1.operations_pb2_grpc import add_OperationServiceServicer_to_server
from cirra.placement.v1.aggregate_pb2_grpc import add_AggregateServiceServicer_to_server
from cirra.placement.v1.decisions_pb2_grpc import add_PlacementServiceServicer_to_server
from cirra.placement.v1.placement_pb2_grpc import add_HostServiceServicer_to_server
from cirra.placement.v1.scheduling_pb2_grpc import SchedulingServiceStub
from core.errors import Unavailable
from core.pki.identity import Identity
from core.plane import Plane, open_plane
from core.projection import ProjectionHalted, Projector
from core.rpc.client import channel
from core.rpc.server import Service, serve
from core.service import Lifetime
from core.web import serve_web

SERVICE = "api-gateway"
SCHEMA = "gateway"
AUTHENTICATION_WAIT_S = 5.0
_CATCH_UP_S = 1.0
_log = structlog.get_logger(__name__)


async def bootstrap(lifetime: Lifetime, settings: GatewaySettings) -> None:
    """A replica of the front door."""
    plane = await open_plane(lifetime, SERVICE, settings)
    schema = settings.schema_name(SCHEMA)
    projector = _projector(plane, schema)
    await projector.prepare()
    lifetime.start(projector.run(), "projector")
    feed = Feed(plane.bus, plane.log, plane.events)
    validity = Validity(plane.clock.now)
    feed.listen(validity.heard, lambda up_to: validity.load(plane.log, up_to))
    lifetime.start(feed.run(), "feed")
    store = Store(plane.log.pool, schema)
    await feed.wait_started()
    await _catch_up(projector, feed)

    parts = Parts(
        store=store,
        projector=projector,
        log=plane.log,
        feed=feed,
        conductor=Conductor(_channel(lifetime, settings.conductor_addresses, plane, "conductor")),
        placement=SchedulingServiceStub(_channel(lifetime, settings.placement_addresses, plane, "placement")),
    )
    blobs = await asyncio.to_thread(Blobs, settings.blob_directory)
    lifetime.start(sweep_forever(blobs, lambda: _wanted_blobs(store)), "blob sweeper")
    downloads = download_app(blobs, _ticket_key(settings), plane.clock.now)
    http = await serve_web(downloads, lifetime, listen=settings.http_listen, tls=plane.tls, name="http")

    tokens = Tokens(
        load_key(settings.token_key_file),
        cell=settings.cell,
        lifetime=timedelta(seconds=settings.token_lifetime_s),
        now=plane.clock.now,
    )
    server = await serve(
        _services(parts, tokens, _uploads(settings, blobs)),
        listen=settings.listen,
        tls=plane.tls,
        require_client=False,
        extra_layers=[authentication(tokens, validity, _caught_up(feed))],
    )
    lifetime.on_stop(server.stop, "server")
    lifetime.ready(grpc=server.address, http=http.address)


def _projector(plane: Plane, schema: str) -> Projector:
    return Projector(
        GatewayProjection(),
        log=plane.log,
        bus=plane.bus,
        leases=plane.leases,
        schema=schema,
        holder=plane.runner,
        stream=plane.events,
    )


def _services(parts: Parts, tokens: Tokens, uploads: Uploads) -> list[Service]:
    return [
        (add_IdentityServiceServicer_to_server, IdentityService(parts, tokens)),
        (add_ComputeServiceServicer_to_server, ComputeService(parts)),
        (add_ImageServiceServicer_to_server, ImageService(parts, uploads)),
        (add_NetworkServiceServicer_to_server, NetworkService(parts)),
        (add_RouterServiceServicer_to_server, RouterService(parts)),
        (add_FloatingIpServiceServicer_to_server, FloatingIpService(parts)),
        (add_DiagnosisServiceServicer_to_server, DiagnosisService(parts)),
        (add_OperationServiceServicer_to_server, OperationService(parts)),
        (add_EventServiceServicer_to_server, EventService(parts)),
        (add_HostServiceServicer_to_server, HostService(parts)),
        (add_AggregateServiceServicer_to_server, AggregateService(parts)),
        (add_PlacementServiceServicer_to_server, PlacementService(parts)),
        (add_ServerGroupServiceServicer_to_server, ServerGroupService(parts)),
        (add_SecurityGroupServiceServicer_to_server, SecurityGroupService(parts)),
    ]


def _uploads(settings: GatewaySettings, blobs: Blobs) -> Uploads:
    limits = Limits(
        virtual_size_bytes=settings.image_max_virtual_bytes,
        memory_bytes=settings.inspection_memory_bytes,
        cpu_s=settings.inspection_cpu_s,
    )
    return Uploads(blobs, limits, settings.image_max_bytes)


def _channel(lifetime: Lifetime, addresses: tuple[str, ...], plane: Plane, service: str) -> grpc.aio.Channel:
    opened = channel(addresses, plane.tls, server=Identity.service(service))
    lifetime.on_stop(opened.close, f"channel to {service}")
    return opened


def _ticket_key(settings: GatewaySettings) -> bytes:
    return base64.b64decode(settings.ticket_key_file.read_text())


async def _catch_up(projector: Projector, feed: Feed) -> None:
    """A read model that is being built must not answer yet; one that has halted answers that it has.

    Where the log is restored meanwhile, or was before and the stream still tells of what it lost, it never gets to
    where the feed was: but the feed then begins anew, at the log's end.
    """
    target = feed.position
    try:
        while not await projector.wait_for(target, _CATCH_UP_S, epoch=feed.epoch):
            _log.info("gateway.catching_up", position=projector.position(), target=target)
            target = min(target, feed.position)
    except ProjectionHalted as error:
        _log.error("gateway.read_model_halted", error=str(error))


async def _wanted_blobs(store: Store) -> set[str]:
    images = await store.query(IMAGE, None, Query())
    return {row.resource.sha256 for row in images.rows if row.resource.sha256}


def _caught_up(feed: Feed) -> Callable[[int | None], Awaitable[None]]:
    async def caught_up(position: int | None) -> None:
        target = await feed.end() if position is None else await feed.within(position)
        if not await feed.wait_for(target, AUTHENTICATION_WAIT_S):
            raise Unavailable(f"position {target} of the log is not known here yet", remedy="try again in a moment")

    return caught_up
