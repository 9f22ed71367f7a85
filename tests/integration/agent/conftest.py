from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.embedded.nats import EmbeddedNats
from core.natsauth.keys import NatsKeys
from core.pki.authority import Authority
from tests.integration.agent.world import World


@pytest.fixture
async def world(
    cell_name: str, nats_server: EmbeddedNats, nats_keys: NatsKeys, authority: Authority, tmp_path: Path
) -> AsyncIterator[World]:
    made = await World.make(cell_name, nats_server.url, nats_keys, authority, tmp_path)
    yield made
    await made.close()
