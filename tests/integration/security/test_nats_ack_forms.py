"""The two forms of acknowledgement subjects (ADR-15): a host may use both for itself, and neither for another.

nats-server 2.15 writes the older form unless a feature flag asks for the newer, which will become the default.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from core.embedded.nats import EmbeddedNats
from core.natsauth.keys import NatsKeys
from core.testing.servers import Cell
from tests.integration.security.hosts_world import ALICE, BOB, PATIENCE_S, World


@dataclass(frozen=True, slots=True)
class Form:
    """A form, the server's flag for it, and how many tokens its subjects have."""

    name: str
    flag: bool
    tokens: int


FORMS = (Form("older", False, 9), Form("newer", True, 11))


@pytest.fixture(params=FORMS, ids=lambda form: form.name)
def form(request: pytest.FixtureRequest) -> Form:
    chosen: Form = request.param
    return chosen


@pytest.fixture
async def world(form: Form, nats_keys: NatsKeys, tmp_path: Path) -> AsyncIterator[World]:
    settings = {"feature_flags": {"js_ack_fc_v2": form.flag}}
    async with EmbeddedNats(tmp_path / "nats", keys=nats_keys, settings=settings) as server:
        cell = Cell("c1", "", server.url, nats_keys, tmp_path)
        yield await World.create(cell)
        await cell.close_connections()


async def test_a_host_acknowledges_its_own_command(world: World, form: Form) -> None:
    await world.command(ALICE, "one")
    [message] = await world.alice.pull("c1", "compute")
    assert len(message.reply.split(".")) == form.tokens
    assert message.metadata.sequence.stream == 1
    await message.ack_sync(timeout=PATIENCE_S)
    assert await world.undelivered(ALICE) == (0, 0)


async def test_a_host_does_not_acknowledge_anothers_command(world: World, form: Form) -> None:
    await world.command(BOB, "one")
    [message] = await world.bob.pull("c1", "compute")
    assert len(message.reply.split(".")) == form.tokens
    assert await world.alice.attempt(message.reply, b"+ACK") == []
    assert await world.alice.was_refused(message.reply)
    assert await world.undelivered(BOB) == (0, 1)
