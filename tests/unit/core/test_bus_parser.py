"""The short way of messages that pour, wherever the stream is cut; all others go nats-py's way."""

from __future__ import annotations

from typing import Any

import pytest

from core.bus.client import BusClient

POURED, HANDLED = 1, 2


class Client(BusClient):
    """Never connected: what it is given to parse comes from the test."""

    def __init__(self) -> None:
        super().__init__()
        self.poured: list[tuple[bytes, bytes]] = []
        self.handled: list[tuple[bytes, bytes]] = []
        self.pings = 0
        self.sinks[POURED] = lambda subject, data: self.poured.append((subject, data))

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        if sid in self.sinks:
            await super()._process_msg(sid, subject, reply, data, headers)
        else:
            self.handled.append((subject, data))

    async def _process_ping(self) -> None:
        self.pings += 1


def message(subject: str, sid: int, data: bytes, reply: str = "") -> bytes:
    parts = ["MSG", subject, str(sid), *([reply] if reply else []), str(len(data))]
    return " ".join(parts).encode() + b"\r\n" + data + b"\r\n"


STREAM = b"".join(
    (
        message("a.1", POURED, b"one"),
        message("a.2", POURED, b"MSG a.9 1 3\r\nnot\r\n"),
        message("b.1", HANDLED, b"two", reply="_INBOX.x"),
        b"PING\r\n",
        message("a.3", POURED, b"", reply="_INBOX.y"),
        b"HMSG b.2 2 12 15\r\nNATS/1.0\r\n\r\nabc\r\n",
        b"+OK\r\n",
        message("a.4", POURED, bytes(range(256))),
    )
)
SUBJECTS = [b"a.1", b"a.2", b"a.3", b"a.4"]


async def parsed(*chunks: bytes) -> Client:
    client = Client()
    parser: Any = client._ps
    for chunk in chunks:
        await parser.parse(chunk)
    return client


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 61, len(STREAM)])
async def test_nothing_is_lost_wherever_it_is_cut(size: int) -> None:
    client = await parsed(*(STREAM[at : at + size] for at in range(0, len(STREAM), size)))
    assert [subject for subject, _ in client.poured] == SUBJECTS
    assert [data for _, data in client.poured][1:3] == [b"MSG a.9 1 3\r\nnot\r\n", b""]
    assert client.poured[-1][1] == bytes(range(256))
    assert client.handled == [(b"b.1", b"two"), (b"b.2", b"abc")]
    assert client.pings == 1


@pytest.mark.parametrize("at", range(len(STREAM)))
async def test_one_cut_anywhere(at: int) -> None:
    client = await parsed(STREAM[:at], STREAM[at:])
    assert [subject for subject, _ in client.poured] == SUBJECTS
    assert len(client.handled) == 2 and client.pings == 1


async def test_what_pours_takes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    parser: Any = client._ps
    stream = b"".join(message(f"a.{number}", POURED, b"x") for number in range(100))

    async def long_way(*_: object) -> None:
        raise AssertionError("a message that pours was handled one by one")

    monkeypatch.setattr(client, "_process_msg", long_way)
    await parser.parse(stream[:-5])
    await parser.parse(stream[-5:])
    assert len(client.poured) == 100


async def test_who_receives_directly_gets_each_message_at_once_whatever_became_of_the_one_before() -> None:
    client, received = BusClient(), []

    def receive(message: Any) -> None:
        received.append((message.subject, message.reply, message.data, message.headers))
        if message.data == b"bad":
            raise ValueError("no such message")

    client._receivers[HANDLED] = receive
    parser: Any = client._ps
    await parser.parse(message("b.1", HANDLED, b"bad") + message("b.2", HANDLED, b"two", reply="_INBOX.x"))
    await parser.parse(b"HMSG b.3 2 18 21\r\nNATS/1.0\r\na: b\r\n\r\nabc\r\n")
    assert received == [
        ("b.1", "", b"bad", None),
        ("b.2", "_INBOX.x", b"two", None),
        ("b.3", "", b"abc", {"a": "b"}),
    ]
