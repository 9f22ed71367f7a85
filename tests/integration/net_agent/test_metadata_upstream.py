"""The metadata proxy on loopback: what a failing service, or a slow one, does to it and to its guests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest

from net_agent.metadata_proxy import server, upstream
from net_agent.metadata_proxy.memory import Memory
from net_agent.metadata_proxy.server import MetadataProxy, Sender
from net_agent.metadata_proxy.upstream import Upstream
from tests.contract.network.metadata_service import MetadataService
from tests.integration.net_agent.metadata_sides import (
    OK,
    Echo,
    Serve,
    at_door,
    ignore,
    listening,
    proxied,
    request,
    send,
)


async def test_a_kept_connection_that_the_service_closed_is_replaced() -> None:
    connections = 0

    async def closes_after_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()

    async with proxied(closes_after_one) as port:
        for _ in range(3):
            assert b"\r\n\r\nok" in await send(port, request("/a", "Connection: close"))
    assert connections == 3


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-", b"SSH-2.0-OpenSSH_9.2\r\n"])
async def test_a_service_that_does_not_answer_is_away(said: bytes) -> None:
    async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    async with proxied(hangs_up) as port:
        answer = await send(port, request("/a"))
    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable") and b"Retry-After: 5" in answer


async def test_a_service_that_hangs_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "RESPONSE_TIMEOUT_S", 0.1)
    finished = asyncio.Event()

    async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await finished.wait()
        writer.close()

    async with proxied(hangs) as port:
        assert (await send(port, request("/a"))).startswith(b"HTTP/1.1 503")
        finished.set()


async def test_half_an_answer_is_not_taken_for_a_whole() -> None:
    async def breaks_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await writer.drain()
        writer.close()

    async with proxied(breaks_off) as port:
        answer = await send(port, request("/a"))
    assert answer.startswith(b"HTTP/1.1 503") and b"abc" not in answer


@asynccontextmanager
async def proxied_by(*services: Serve) -> AsyncIterator[int]:
    """The port of a proxy in front of several replicas."""
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(listening(serve)) for serve in services]
        to_services = Upstream(",".join(f"http://127.0.0.1:{port}" for port in ports), None)
        stack.callback(to_services.close)
        proxy = MetadataProxy(Sender("h1", "n1", b"key"), to_services, Memory(lambda address: ""), ignore)
        yield await stack.enter_async_context(at_door(proxy))


async def test_replicas_take_turns() -> None:
    one, other = MetadataService(), MetadataService()
    async with proxied_by(one.serve, other.serve) as port:
        for _ in range(6):
            assert b"HTTP/1.1 200" in await send(port, request("/a"))
    assert (len(one.asked), len(other.asked)) == (3, 3)
    assert (one.connections, other.connections) == (1, 1)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
async def test_what_one_replica_fails_at_another_does(monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    monkeypatch.setattr(upstream, "AVOID_S", 600.0)
    failures = 0

    async def fails(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal failures
        failures += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    service = MetadataService()
    async with proxied_by(fails, service.serve) as port:
        for _ in range(6):
            assert (await send(port, request("/a"))).endswith(service.answer)
    # It was asked once, and then left alone for a while.
    assert (failures, len(service.asked)) == (1, 6)


async def test_a_replica_that_hangs_costs_a_moment_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "AVOID_S", 600.0)
    monkeypatch.setattr(upstream, "IMPATIENT_S", 0.1)
    finished, connections = asyncio.Event(), 0

    async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await finished.wait()
        writer.close()

    service = MetadataService()
    async with proxied_by(service.serve, hangs) as port:  # the last one has the first turn
        assert (await send(port, request("/a"))).endswith(service.answer)
        monkeypatch.setattr(upstream, "IMPATIENT_S", 60.0)
        for _ in range(5):
            assert (await send(port, request("/a"))).endswith(service.answer)
        finished.set()
    assert connections == 1


async def test_a_burst_of_guests_takes_one_connection() -> None:
    """And of one guest a few questions at a time, so that the others' come through."""
    service, others = Echo(), [f"127.0.1.{number}" for number in range(1, 21)]
    async with proxied(service.serve) as port, asyncio.TaskGroup() as guests:
        many = [guests.create_task(send(port, request("/greedy"))) for _ in range(8)]
        await service.all_asked(upstream.MAX_REQUESTS_PER_GUEST)
        each = [guests.create_task(send(port, request(f"/{address}"), of=address)) for address in others]
        await service.all_asked(upstream.MAX_REQUESTS_PER_GUEST + len(others))
        assert service.asked.count(b"/greedy") == upstream.MAX_REQUESTS_PER_GUEST < len(many)
        service.held.set()
        for address, answer in zip(others, each, strict=True):
            assert (await answer).endswith(b"\r\n\r\n/" + address.encode())
        assert all([(await answer).endswith(b"/greedy") for answer in many])
    assert service.connections == 1


async def test_who_goes_away_leaves_its_answer_to_nobody() -> None:
    service = Echo()
    async with proxied(service.serve) as port:
        _, gone = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
        gone.write(request("/of-the-first"))
        await service.all_asked(1)
        async with asyncio.TaskGroup() as guests:
            second = guests.create_task(send(port, request("/of-the-second"), of="127.0.0.3"))
            await service.all_asked(2)
            gone.transport.abort()
            third = guests.create_task(send(port, request("/of-the-third"), of="127.0.0.4"))
            await service.all_asked(3)
            service.held.set()
    assert second.result().endswith(b"\r\n\r\n/of-the-second")
    assert third.result().endswith(b"\r\n\r\n/of-the-third")
    assert service.connections == 1


async def test_what_takes_long_holds_up_nobody_else() -> None:
    """A password that is posted; and what is asked by whom the service did not know when it asked before."""
    service = Echo(never=(b"/again", b"/password"), strangers=(b"/first",))
    service.held.set()
    async with proxied(service.serve) as port:
        assert (await send(port, request("/first"), of="127.0.0.2")).startswith(b"HTTP/1.1 404")
        slow = [
            asyncio.create_task(send(port, request("/again"), of="127.0.0.2")),
            asyncio.create_task(send(port, request("/password", "Content-Length: 0", method="POST"), of="127.0.0.3")),
        ]
        await service.all_asked(3)
        for _ in range(3):
            assert (await send(port, request("/quick"), of="127.0.0.4")).endswith(b"/quick")
        assert not any(each.done() for each in slow)
        for each in slow:
            each.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
    assert service.connections == 3


async def test_what_was_left_unanswered_is_asked_again() -> None:
    """A connection ends on which several wait: each has its own answer in the end."""
    service, lost = Echo(), 0
    service.held.set()

    async def loses_three(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal lost
        if lost:
            await service.serve(reader, writer)
            return
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK % (2, b"/a"))
        while lost < 3:
            await reader.readuntil(b"\r\n\r\n")
            lost += 1
        writer.close()

    async with proxied(loses_three) as port:
        assert (await send(port, request("/a"))).endswith(b"/a")
        asked = [f"/{number}" for number in range(3)]
        answers = await asyncio.gather(
            *(send(port, request(path), of=f"127.0.0.{10 + number}") for number, path in enumerate(asked))
        )
    assert [answer.rpartition(b"\r\n")[2].decode() for answer in answers] == asked
    assert (lost, service.connections) == (3, 1)


async def test_an_answer_without_end_is_none() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        with suppress(ConnectionError):
            while True:
                writer.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
                await writer.drain()

    async with proxied(endless) as port:
        assert (await send(port, request("/a"))).startswith(b"HTTP/1.1 503")


async def test_an_interim_answer_is_not_the_one_that_counts() -> None:
    async def hints(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    async with proxied(hints) as port:
        answers = await send(port, request("/a") + request("/b", "Connection: close"))
    assert answers.count(b"HTTP/1.1 200 OK") == 2 and answers.count(b"\r\n\r\nok") == 2
    assert b"Hints" not in answers and b"Link" not in answers


ANSWERED = b"HTTP/1.1 200 OK\r\nX-Cirra-Instance: one\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize("failing", [b"", b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", None])
async def test_who_was_answered_is_answered_again_while_the_service_is_away(
    monkeypatch: pytest.MonkeyPatch, failing: bytes | None
) -> None:
    """It hangs up, can't say, or (None) says nothing; whose the answer is, no guest is told."""
    monkeypatch.setattr(server, "SPARED_S", 0.1)
    finished, owner = asyncio.Event(), "one"
    said: bytes | None = ANSWERED

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if said is None:
            await finished.wait()
        else:
            writer.write(said)
        writer.close()

    async with proxied(serve, Memory(lambda address: owner)) as port:
        assert (await send(port, request("/a"))).endswith(b"\r\n\r\nok")
        said = failing
        monkeypatch.setattr(upstream, "RESPONSE_TIMEOUT_S", 0.2)
        again = await send(port, request("/a"))
        assert again.startswith(b"HTTP/1.1 200 OK") and again.endswith(b"\r\n\r\nok")
        assert b"cirra" not in again.lower()
        assert (await send(port, request("/b"))).startswith(b"HTTP/1.1 50")
        owner = "another"
        assert (await send(port, request("/a"))).startswith(b"HTTP/1.1 50"), "the address is another's now"
        finished.set()
