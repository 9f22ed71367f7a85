from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.embedded.nats import EmbeddedNats
from core.natsauth.keys import NatsKeys
from core.pki.authority import Authority
from tests.integration.compute_agent.cloud import ComputeWorld


@pytest.fixture
async def world(
    cell_name: str, nats_server: EmbeddedNats, nats_keys: NatsKeys, authority: Authority, tmp_path: Path
) -> AsyncIterator[ComputeWorld]:
    made = await ComputeWorld.make(cell_name, nats_server.url, nats_keys, authority, tmp_path)
    assert isinstance(made, ComputeWorld)
    yield made
    await made.close()
