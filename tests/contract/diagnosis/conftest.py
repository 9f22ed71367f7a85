from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.diagnosis.site import Site
from tests.contract.network.hosts import LinuxHost, make_network, make_port
from tests.contract.network.metadata_service import MetadataService, make_identities

SERVICE_PORT = 8775


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A host with a metadata service, and a guest that has all that it was given."""
    linux, service = LinuxHost(tmp_path), MetadataService()
    url = f"https://127.0.0.1:{SERVICE_PORT}"
    context, linux.identity = make_identities(tmp_path, "host-1", url, linux.identity.signing_key)
    await linux.start()
    try:
        listener = await linux.namespaces.on_host(lambda: socket.create_server(("127.0.0.1", SERVICE_PORT)))
        async with await asyncio.start_server(service.serve, sock=listener, ssl=context) as server:
            port = make_port(make_network(), 11)
            await linux.driver.plug(port)
            guest = await linux.guest(port)
            assert await guest.dhcp() is not None
            yield Site(linux, port, guest, server, service)
    finally:
        await linux.stop()
