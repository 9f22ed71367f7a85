from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.diagnosis.site import Site, serving
from tests.contract.network.hosts import make_network, make_port


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A guest on a network of its own, which has all that it was given."""
    async with serving(tmp_path) as (linux, server):
        port = make_port(make_network(), 11)
        await linux.driver.plug(port)
        guest = await linux.guest(port)
        assert await guest.dhcp() is not None
        yield Site(linux, port, guest, server)
