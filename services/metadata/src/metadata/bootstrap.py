"""Wires the metadata service: the one place where its parts meet."""

from __future__ import annotations

import base64

from core.plane import open_plane
from core.projection import Projector
from core.service import Lifetime
from core.web import serve_web
from metadata.app import MetadataApp
from metadata.documents import DocumentsProjection
from metadata.fetches import Fetches
from metadata.guest import Guests
from metadata.proof import SessionTokens
from metadata.settings import MetadataSettings

CATCH_UP_S = 1.0


async def bootstrap(lifetime: Lifetime, settings: MetadataSettings) -> None:
    plane = await open_plane(lifetime, "metadata", settings)
    schema = settings.schema_name("metadata")
    projector = Projector(
        DocumentsProjection(), log=plane.log, bus=plane.bus, leases=plane.leases, schema=schema, holder=plane.runner
    )
    await projector.prepare()
    lifetime.start(projector.run(), "documents")
    fetches = Fetches(plane.bus, boot_id=plane.runner)
    lifetime.start(fetches.run(), "fetches")

    async def caught_up() -> None:
        await projector.wait_for((await plane.log.head()).position, CATCH_UP_S)

    master_key = base64.b64decode(settings.metadata_key_file.read_text())
    app = MetadataApp(
        Guests(plane.log.pool, schema, plane.keyring),
        fetches,
        SessionTokens(master_key, lambda: plane.clock.now().timestamp()),
        master_key=master_key,
        caught_up=caught_up,
    )
    server = await serve_web(app.build(), lifetime, listen=settings.http_listen, tls=plane.tls, name="https")
    lifetime.ready(https=server.address)
