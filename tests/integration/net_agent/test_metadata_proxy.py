"""The metadata proxy on loopback: what hostile guests do to it. Namespaces: tests/contract."""

from __future__ import annotations

import asyncio
import socket

import pytest

from net_agent.metadata_proxy import guest, server
from tests.contract.network.metadata_service import MetadataService
from tests.integration.net_agent.metadata_sides import proxied, request, send


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
    monkeypatch.setattr(guest, "REQUEST_TIMEOUT_S", 0.1)
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

        await is_served(port)
        for _, each in opened[1:]:
            each.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"a" * 30_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 30_000, 431),
        (b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n" + b"a" * 65_537, 413),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n X-Cirra-Host: c\r\n\r\n", 400),
        (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET http://elsewhere/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    ],
)
async def test_what_no_guest_may_send_is_refused_and_not_passed_on(sent: bytes, status: int) -> None:
    service = MetadataService()
    async with proxied(service.serve) as port:
        assert (await send(port, sent, then_close=False)).startswith(b"HTTP/1.1 %d " % status)
    assert service.asked == []


async def test_what_is_good_is_answered_before_what_follows_is_refused() -> None:
    service = MetadataService()
    async with proxied(service.serve) as port:
        answers = await send(port, request("/a") + b"nonsense\r\n\r\n", then_close=False)
    assert answers.index(b"HTTP/1.1 200") < answers.index(b"HTTP/1.1 400")
    assert [asked.target for asked in service.asked] == ["/a"]


async def test_trailers_are_no_headers() -> None:
    service = MetadataService()
    chunked = request("/p", "Transfer-Encoding: chunked", method="POST", body="0\r\nX-Cirra-Host: h2\r\nX-T: 1\r\n\r\n")
    async with proxied(service.serve) as port:
        assert b"HTTP/1.1 200" in await send(port, chunked)
    [asked] = service.asked
    assert asked.headers["x-cirra-host"] == "h1" and "x-t" not in asked.headers


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /a HTTP/1.0\r\n\r\n",
        b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    ],
)
async def test_who_asks_no_more_is_answered_and_left(sent: bytes) -> None:
    """curl asks for HTTP/2 like that; old clients speak HTTP/1.0."""
    service = MetadataService()
    async with proxied(service.serve) as port:
        answer = await send(port, sent, then_close=False)
    assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(service.answer)
    assert b"\r\nConnection: close\r\n" in answer
    assert [asked.target for asked in service.asked] == ["/a"]


async def test_who_does_not_read_its_answers_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has one connection then, and gets another once it has lost that one."""
    monkeypatch.setattr(guest, "WRITE_TIMEOUT_S", 0.1)
    monkeypatch.setattr(server, "MAX_CONNECTIONS_PER_ADDRESS", 1)
    service = MetadataService(answer=bytes(1_000_000))
    async with proxied(service.serve) as port:
        with socket.socket() as deaf:
            deaf.setblocking(False)
            await asyncio.get_running_loop().sock_connect(deaf, ("127.0.0.1", port))
            await asyncio.get_running_loop().sock_sendall(deaf, request("/a") * 30)
            await is_served(port)
            asked = [asked.target for asked in service.asked]
    assert 0 < asked.count("/a") < 30, "it is not asked what nobody reads"


async def is_served(port: int) -> None:
    """Returns once the proxy takes a connection of ours."""

    async def served() -> bool:
        try:
            return b"200" in await send(port, request("/b", "Connection: close"), then_close=False)
        except ConnectionError:
            return False

    async with asyncio.timeout(60):
        while not await served():  # noqa: ASYNC110 - the proxy tells nobody when it has noticed a close
            await asyncio.sleep(0.01)


async def test_a_session_token_is_not_asked_for_others() -> None:
    service = MetadataService()
    async with proxied(service.serve) as port:
        refused = await send(port, request("/latest/api/token", "X-Forwarded-For: 10.0.0.9", method="PUT"))
        passed = await send(port, request("/latest/meta-data/", "X-Forwarded-For: 10.0.0.9"))
    assert refused.startswith(b"HTTP/1.1 403") and passed.startswith(b"HTTP/1.1 200")
    assert [asked.method for asked in service.asked] == ["GET"]


async def test_a_head_without_a_body() -> None:
    service = MetadataService()
    async with proxied(service.serve) as port:
        answers = await send(port, request("/a", method="HEAD") + request("/b", "Connection: close"))
    assert answers.count(b"HTTP/1.1 200") == 2 and answers.count(service.answer) == 1
    assert answers.count(b"Content-Length: %d\r\n" % len(service.answer)) == 2
    assert [asked.method for asked in service.asked] == ["GET", "GET"], "a head is that of GET (RFC 9110, 9.3.2)"
