from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.bus import ensure_command_consumer
from core.embedded.nats import EmbeddedNats
from core.natsauth.keys import NatsKeys
from core.pki.authority import Authority
from tests.integration.agent.world import HOST, World


@pytest.fixture
async def world(
    cell_name: str, nats_server: EmbeddedNats, nats_keys: NatsKeys, authority: Authority, tmp_path: Path
) -> AsyncIterator[World]:
    """A cell with a conductor's side for the net-agent of host `h1`."""
    made = await World.make(cell_name, nats_server.url, nats_keys, authority, tmp_path)
    await ensure_command_consumer(made.bus, HOST, ("net",))
    yield made
    await made.close()
