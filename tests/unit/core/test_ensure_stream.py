from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import nats.errors
import pytest
from nats.js import JetStreamContext
from nats.js.api import StreamConfig
from nats.js.errors import NotFoundError, ServerError

from core.bus.streams import ensure_stream

CONFIG = StreamConfig(name="cell-EVENTS", subjects=["cell.events.>"])


class Refusing:
    """JetStream that creates the stream for another, or has no leader yet; `there`: whether it comes to be."""

    def __init__(self, error: Exception, *, there: bool) -> None:
        self.error = error
        self.there = there
        self.refused = 0

    async def stream_info(self, name: str) -> Any:
        if self.refused and self.there:
            return SimpleNamespace(config=CONFIG)
        raise NotFoundError(code=404)

    async def add_stream(self, config: StreamConfig) -> None:
        self.refused += 1
        raise self.error


BUSY = ServerError(code=500, err_code=10049, description="error creating store for stream")
UNLED = nats.errors.TimeoutError()


@pytest.mark.parametrize("error", [BUSY, UNLED], ids=["another creates it", "no answer"])
async def test_a_stream_that_comes_to_be_in_the_same_moment_is_found(error: Exception) -> None:
    server = Refusing(error, there=True)
    await ensure_stream(cast(JetStreamContext, server), CONFIG)
    assert server.refused == 1


@pytest.mark.parametrize("error", [BUSY, UNLED], ids=["another creates it", "no answer"])
async def test_a_server_that_goes_on_refusing_is_an_error(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.bus.streams._STREAM_PAUSE_S", 0.0)
    with pytest.raises(type(error)):
        await ensure_stream(cast(JetStreamContext, Refusing(error, there=False)), CONFIG)
