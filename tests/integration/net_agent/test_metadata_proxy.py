"""The metadata proxy on loopback: what hostile guests and a failing service do to it. Namespaces: tests/contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest

from net_agent.metadata_proxy import server, upstream
from net_agent.metadata_proxy.memory import Memory
from net_agent.metadata_proxy.server import MetadataProxy, Sender
from net_agent.metadata_proxy.upstream import Upstream
from tests.contract.network.metadata_service import MetadataService

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def ignore(**fields: object) -> None:
    """The proxy's log is of no concern here."""


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[int]:
    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()


@asynccontextmanager
async def proxied(serve: Serve, memory: Memory | None = None) -> AsyncIterator[int]:
    """The port of a proxy in front of a service."""
    async with listening(serve) as service_port:
        to_service = Upstream(f"http://127.0.0.1:{service_port}", None)
        proxy = MetadataProxy(Sender("h1", "n1", b"key"), to_service, memory or Memory(lambda address: ""), ignore)
        async with listening(proxy.serve) as port:
            yield port
        to_service.close()


async def send(port: int, content: bytes, *, then_close: bool = True) -> bytes:
    """Everything that comes back until the proxy closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(content)
    if then_close:
        writer.write_eof()
    try:
        async with asyncio.timeout(60):
            return await reader.read()
    finally:
        writer.close()


def request(path: str, *headers: str, method: str = "GET", body: str = "") -> bytes:
    head = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: 169.254.169.254", *headers])
    return f"{head}\r\n\r\n{body}".encode()


async def test_one_connection_carries_several_requests() -> None:
    service = MetadataService()
    async with proxied(service.serve) as port:
        answers = await send(port, request("/a") + request("/b") + request("/c", "Connection: close"))
    assert answers.count(b"HTTP/1.1 200") == 3
    assert [asked.target for asked in service.asked] == ["/a", "/b", "/c"]
    assert service.connections == 1


async def test_a_chunked_body_arrives_whole() -> None:
    service = MetadataService()
    chunked = request("/p", "Transfer-Encoding: chunked", method="POST", body="3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    async with proxied(service.serve) as port:
        assert b"HTTP/1.1 200" in await send(port, chunked)
    assert service.asked[0].body == b"abcde" and service.asked[0].headers["content-length"] == "5"


async def test_who_waits_for_100_is_told_to_continue() -> None:
    service = MetadataService()
    async with proxied(service.serve) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("/p", "Content-Length: 2", "Expect: 100-continue", "Connection: close", method="POST"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 \r\n\r\n"
        writer.write(b"ab")
        assert b"HTTP/1.1 200" in await reader.read()
        writer.close()
    assert service.asked[0].body == b"ab"


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello over TLS\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\x00: c\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused_and_not_passed_on(nonsense: bytes) -> None:
    service = MetadataService()
    async with proxied(service.serve) as port:
        assert (await send(port, nonsense)).startswith(b"HTTP/1.1 400 ")
    assert service.asked == []


async def test_a_request_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_TIMEOUT_S", 0.1)
    service = MetadataService()
    async with proxied(service.serve) as port:
        assert await send(port, b"GET / HTTP/1.1\r\nHost: a\r\n", then_close=False) == b""
    assert service.asked == []


async def test_one_guest_does_not_take_all_connections() -> None:
    service = MetadataService()
    async with proxied(service.serve) as port:
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(server.MAX_CONNECTIONS_PER_ADDRESS)]
        # One that is known to be served, so that all before it are counted.
        opened[-1][1].write(request("/a"))
        assert await opened[-1][0].readuntil(b"\r\n\r\n")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        writer.close()
        opened[0][1].close()
        await opened[0][1].wait_closed()

        async def served() -> bool:
            try:
                return b"200" in await send(port, request("/b", "Connection: close"))
            except ConnectionResetError:
                return False

        async with asyncio.timeout(60):
            while not await served():  # noqa: ASYNC110 — the proxy tells nobody when it has noticed a close
                await asyncio.sleep(0.01)
        for _, each in opened[1:]:
            each.close()


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
        yield await stack.enter_async_context(listening(proxy.serve))


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


async def test_a_burst_of_guests_takes_few_connections() -> None:
    release, waiting, connections = asyncio.Event(), 0, 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal waiting, connections
        connections += 1
        while await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            waiting += 1
            await release.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    async def all_wait(count: int) -> None:
        async with asyncio.timeout(60):
            while waiting < count:  # noqa: ASYNC110 - the proxy tells nobody
                await asyncio.sleep(0.01)

    async with proxied(slow) as port:
        asking = [asyncio.create_task(send(port, request("/a"))) for _ in range(server.MAX_CONNECTIONS_PER_ADDRESS)]
        # All of one guest: it may not have all the connections that there are.
        await all_wait(upstream.MAX_REQUESTS_PER_GUEST)
        release.set()
        answers = await asyncio.gather(*asking)
    assert all(answer.endswith(b"ok") for answer in answers)
    assert connections == upstream.MAX_REQUESTS_PER_GUEST < upstream.MAX_REQUESTS


async def test_a_session_token_is_not_asked_for_others() -> None:
    service = MetadataService()
    async with proxied(service.serve) as port:
        refused = await send(port, request("/latest/api/token", "X-Forwarded-For: 10.0.0.9", method="PUT"))
        passed = await send(port, request("/latest/meta-data/", "X-Forwarded-For: 10.0.0.9"))
    assert refused.startswith(b"HTTP/1.1 403") and passed.startswith(b"HTTP/1.1 200")
    assert [asked.method for asked in service.asked] == ["GET"]


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


async def test_a_head_without_a_body() -> None:
    service = MetadataService()
    async with proxied(service.serve) as port:
        answers = await send(port, request("/a", method="HEAD") + request("/b", "Connection: close"))
    assert answers.count(b"HTTP/1.1 200") == 2 and answers.count(service.answer) == 1
    assert service.connections == 2


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
