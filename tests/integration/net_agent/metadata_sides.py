"""Both sides of a metadata proxy on loopback: guests that send what they like, and services that do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from net_agent.metadata_proxy.memory import Memory
from net_agent.metadata_proxy.server import MetadataProxy, Sender
from net_agent.metadata_proxy.upstream import Upstream

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
async def at_door(proxy: MetadataProxy) -> AsyncIterator[int]:
    listener = await asyncio.get_running_loop().create_server(proxy.connection, "127.0.0.1", 0)
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
        async with at_door(proxy) as port:
            yield port
        to_service.close()


async def send(port: int, content: bytes, *, then_close: bool = True, of: str = "127.0.0.1") -> bytes:
    """Everything that comes back until the proxy closes. of: the guest's address."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(of, 0))
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


OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"


@dataclass(slots=True)
class Echo:
    """Answers with what it is asked, in order, once `held` is set. To `never` it has no answer, `strangers` get 404."""

    never: tuple[bytes, ...] = ()
    strangers: tuple[bytes, ...] = ()
    held: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[bytes] = field(default_factory=list)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        questions: asyncio.Queue[bytes] = asyncio.Queue()
        answering = asyncio.create_task(self._answer(questions, writer))
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                questions.put_nowait(target := head.split(b" ", 2)[1])
                self.asked.append(target)
        answering.cancel()
        writer.close()

    async def _answer(self, questions: asyncio.Queue[bytes], writer: asyncio.StreamWriter) -> None:
        await self.held.wait()
        while (target := await questions.get()) not in self.never:
            known = target not in self.strangers
            writer.write(OK % (len(target), target) if known else b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")

    async def all_asked(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.asked) < count:  # noqa: ASYNC110 - the proxy tells nobody
                await asyncio.sleep(0.01)
