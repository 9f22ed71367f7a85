"""Wires the metadata service: the one place where its parts meet."""

from __future__ import annotations

import base64
import os

from cirra.conductor.v1.commands_pb2_grpc import GuestCommandsStub
from core.eventlog.types import RecordedEvent
from core.pki.identity import Identity
from core.plane import Plane, open_plane
from core.projection import EventTail, Projector
from core.rpc.client import channel
from core.service import Lifetime
from metadata.app import MetadataApp
from metadata.cache import GuestCache
from metadata.documents import CONCERNED, DocumentsProjection
from metadata.fetches import Fetches
from metadata.guests import Guests
from metadata.news import News
from metadata.openstack import Cloud
from metadata.passwords import Passwords
from metadata.proof import SessionTokens
from metadata.server import HttpServer
from metadata.settings import MetadataSettings
from metadata.vendor_data import read_vendor_data

CATCH_UP_S = 1.0
# A guest boots for longer before it asks.
NEWS_LATE_S = 0.1
METADATA_FETCHED = "cirra.compute.v1.InstanceMetadataFetched"


async def bootstrap(lifetime: Lifetime, settings: MetadataSettings) -> None:
    cloud = Cloud(random_bytes=os.urandom, vendor_data=read_vendor_data(settings.vendor_data_file))
    news_of = CONCERNED | {METADATA_FETCHED}
    plane = await open_plane(lifetime, "metadata", settings, news_late_s=NEWS_LATE_S, news_of=news_of)
    schema = settings.schema_name("metadata")
    projector = Projector(
        DocumentsProjection(),
        log=plane.log,
        bus=plane.bus,
        leases=plane.leases,
        schema=schema,
        holder=plane.runner,
        stream=plane.events,
    )
    await projector.prepare()
    lifetime.start(projector.run(), "documents")
    fetches = Fetches(plane.bus, boot_id=plane.runner)
    lifetime.start(fetches.run(), "fetches")
    conductor = channel(settings.conductor_addresses, plane.tls, server=Identity.service("conductor"))
    lifetime.on_stop(conductor.close, "conductor channel")

    master_key = base64.b64decode(settings.metadata_key_file.read_text())
    guests = Guests(plane.log.pool, schema, plane.keyring)
    cache = GuestCache(guests, projector.position)
    news = _news(plane, cache, fetches)
    lifetime.start(news.run(), "events")

    async def caught_up(position: int) -> None:
        await projector.wait_for(position, CATCH_UP_S)

    async def up_to_date() -> None:
        """The documents and what is remembered of them: who sees the one must not be told the other of before."""
        head = await plane.log.head()
        await projector.wait_for(head.position, CATCH_UP_S, epoch=head.epoch)
        await news.wait_for(head.position, CATCH_UP_S)

    app = MetadataApp(
        cache,
        guests.open,
        cloud,
        fetches,
        Passwords(GuestCommandsStub(conductor), caught_up),
        SessionTokens(master_key, lambda: plane.clock.now().timestamp()),
        master_key=master_key,
        up_to_date=up_to_date,
    )
    server = HttpServer(app)
    address = await server.listen(settings.http_listen, plane.tls)
    lifetime.on_stop(server.close, "https")
    lifetime.ready(https=address)


def _news(plane: Plane, cache: GuestCache, fetches: Fetches) -> News:
    async def end() -> int:
        return (await plane.log.head()).position

    def happened(event: RecordedEvent) -> None:
        cache.happened(event)
        if event.type == METADATA_FETCHED:
            fetches.known(event.aggregate_id)

    return News(
        end,
        lambda position: EventTail(plane.bus, plane.log, after=position, stream=plane.events),
        cache.begin,
        happened,
    )
