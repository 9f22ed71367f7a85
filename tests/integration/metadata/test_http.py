"""The metadata service's HTTP, as a proxy speaks it: many questions over one connection, answers in their order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from metadata import http
from metadata.http import Answer, Request
from metadata.server import HttpServer


@dataclass(slots=True)
class Mirror:
    """Answers with method, path and body. Paths that begin with /slow wait for `go`; /broken fails."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[str] = field(default_factory=list)

    def at_once(self, request: Request) -> Answer | None:
        self.asked.append(request.raw_path)
        if request.path.startswith(("/slow", "/broken")):
            return None
        return Answer(200, f"{request.method} {request.path} {request.body.decode()}".encode())

    async def __call__(self, request: Request) -> Answer:
        if request.path == "/broken":
            raise RuntimeError("broken")
        await self.go.wait()
        return Answer(200, request.path.encode(), headers={"x-slow": "yes"})


@asynccontextmanager
async def served(mirror: Mirror) -> AsyncIterator[tuple[HttpServer, asyncio.StreamReader, asyncio.StreamWriter]]:
    server = HttpServer(mirror)
    host, port = (await server.listen("127.0.0.1:0", None)).split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(30):
            yield server, reader, writer
    finally:
        writer.close()
        await server.close()


def request(path: str, method: str = "GET", *headers: str, body: str = "") -> bytes:
    length = [f"Content-Length: {len(body)}"] if body else []
    return ("\r\n".join([f"{method} {path} HTTP/1.1", "Host: m", *headers, *length]) + f"\r\n\r\n{body}").encode()


async def answer(reader: asyncio.StreamReader, *, bare: bool = False) -> tuple[bytes, bytes]:
    """Head and body of the next one. bare: there is no body."""
    head = await reader.readuntil(b"\r\n\r\n")
    [length] = [line for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
    return head, b"" if bare else await reader.readexactly(int(length.partition(b":")[2]))


async def test_answers_come_in_the_order_of_the_questions() -> None:
    mirror = Mirror()
    async with served(mirror) as (_, reader, writer):
        writer.write(request("/a?x=1") + request("/slow/1") + request("/b%20c") + request("/slow/2"))
        assert (await answer(reader))[1] == b"GET /a "
        while len(mirror.asked) < 4:  # noqa: ASYNC110 - it is read, and nobody tells
            await asyncio.sleep(0.01)
        mirror.go.set()
        head, body = await answer(reader)
        assert (body, b"\r\nx-slow: yes\r\n" in head) == (b"/slow/1", True)
        assert [(await answer(reader))[1] for _ in range(2)] == [b"GET /b c ", b"/slow/2"]
    assert mirror.asked == ["/a", "/slow/1", "/b%20c", "/slow/2"]


async def test_bodies_heads_and_failures() -> None:
    async with served(Mirror()) as (_, reader, writer):
        whole = request("/p", "POST", body="secret")
        for part in (whole[:7], whole[7:-3], whole[-3:]):
            writer.write(part)
            await asyncio.sleep(0)
        assert (await answer(reader))[1] == b"POST /p secret"
        writer.write(request("/h", "HEAD"))
        head, _ = await answer(reader, bare=True)
        assert b"\r\ncontent-length: 8\r\n" in head and b"\r\ndate: " in head
        writer.write(request("/broken"))
        assert (await answer(reader))[0].startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
        writer.write(request("/after", "GET", "Connection: close") + request("/never"))
        head, body = await answer(reader)
        assert (body, b"\r\nconnection: close\r\n" in head) == (b"GET /after ", True)
        assert await reader.read() == b""


@pytest.mark.parametrize(
    "sent",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"GET / HTTP/1.1\r\nX: " + bytes(b"a" * 2 * http.MAX_HEAD_OCTETS),
        request("/p", "POST", body="a" * (http.MAX_BODY_OCTETS + 1)),
    ],
    ids=["no HTTP", "a head without end", "a body that is too long"],
)
async def test_what_no_proxy_sends_is_refused_after_what_is_good(sent: bytes) -> None:
    mirror = Mirror()
    async with served(mirror) as (_, reader, writer):
        writer.write(request("/good"))
        assert (await answer(reader))[1] == b"GET /good "
        writer.write(sent)
        assert (await answer(reader))[0].startswith(b"HTTP/1.1 400 ")
    assert mirror.asked == ["/good"]


async def test_who_asks_much_is_read_as_far_as_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_UNANSWERED", 4)
    mirror = Mirror()
    async with served(mirror) as (_, reader, writer):
        for number in range(8):
            writer.write(request(f"/slow/{number}"))
            await writer.drain()
            await asyncio.sleep(0.01)
        mirror.go.set()
        assert [(await answer(reader))[1] for _ in range(8)] == [f"/slow/{number}".encode() for number in range(8)]


async def test_a_connection_that_nobody_uses_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(Mirror()) as (_, reader, writer):
        writer.write(request("/a"))
        assert (await answer(reader))[1] == b"GET /a "
        monkeypatch.setattr(http, "IDLE_S", 0.1)
        writer.write(request("/b"))
        assert (await answer(reader))[1] == b"GET /b "
        assert await reader.read() == b""


async def test_the_end_waits_for_what_was_asked() -> None:
    mirror = Mirror()
    async with served(mirror) as (server, reader, writer):
        writer.write(request("/slow/1"))
        while not mirror.asked:  # noqa: ASYNC110 - it is read, and nobody tells
            await asyncio.sleep(0.01)
        closing = asyncio.create_task(server.close())
        await asyncio.sleep(0)
        mirror.go.set()
        assert (await answer(reader))[1] == b"/slow/1"
        assert await reader.read() == b""
        await closing
