"""When a connection that hears much rests: not while it is behind."""

from __future__ import annotations

from typing import Any

import pytest
from nats.aio.client import DEFAULT_BUFFER_SIZE
from nats.aio.transport import TcpTransport

from core.bus.client import BusClient


class Stream:
    """Of a socket: how often it was paused, and whether it is now."""

    def __init__(self) -> None:
        self.rests = 0
        self.paused = False

    def pause_reading(self) -> None:
        self.rests += 1
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_closing(self) -> bool:
        return False


class Writer:
    def __init__(self, stream: Stream) -> None:
        self.transport = stream


def client(rest_s: float) -> tuple[BusClient, Stream]:
    made, transport, stream = BusClient(rest_s=rest_s), TcpTransport(), Stream()
    writer: Any = Writer(stream)
    transport._io_writer = writer
    made._transport = transport
    return made, stream


async def test_it_rests_after_it_has_read_all_there_was() -> None:
    resting, stream = client(0.001)
    await resting.rest(100)
    await resting.rest(DEFAULT_BUFFER_SIZE)  # there may be more
    assert stream.rests == 1
    await resting.rest(100)
    assert stream.rests == 2 and not stream.paused


async def test_after_much_it_looks_once_more() -> None:
    resting, stream = client(0.001)
    for _ in range(3):
        for read in (*[DEFAULT_BUFFER_SIZE] * 4, 100):
            await resting.rest(read)
    assert stream.rests == 0
    await resting.rest(16 * 1024)
    assert stream.rests == 1


@pytest.mark.parametrize("read", [0, 100, DEFAULT_BUFFER_SIZE])
async def test_others_never_rest(read: int) -> None:
    awake, stream = client(0.0)
    await awake.rest(read)
    assert stream.rests == 0
