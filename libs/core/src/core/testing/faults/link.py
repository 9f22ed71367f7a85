"""A TCP address in front of a server, whose connections a test can harm: for Postgres, NATS, gRPC, with TLS or not.

    async with TcpLink(server.port) as link:
        log = await EventLog.open(link.url(dsn), schema=…)
        with link.blackholed():          # nothing passes, nobody is told: a partition
            …
        link.reset()                     # RST to both ends of what is open now

What is sent into a black hole arrives when it ends, as TCP's retransmissions would have it: that is the harder case
for whoever must change nothing once it is back. `lost=True` has the connections reset at the end instead, as after a
partition that outlasted the kernel's patience (tcp(7), tcp_retries2).
One thing differs from a real partition: the kernel accepts a new connection, which then is silent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from types import TracebackType
from urllib.parse import urlsplit, urlunsplit

from core.testing.faults.errors import FaultFailed
from core.testing.faults.link_connection import Conditions, Filter, LinkConnection

LOOPBACK = "127.0.0.1"


class Way(Enum):
    """The direction in which bytes go."""

    TO_SERVER = "to server"
    TO_CLIENT = "to client"


class TcpLink:
    """An async context manager. `connections`: those that are open; `accepted`: how many there ever were."""

    def __init__(self, port: int, host: str = LOOPBACK, *, filter_of: Callable[[], Filter] | None = None) -> None:
        """*filter_of* makes the filter of each new connection."""
        self._target = (host, port)
        self._filter_of = filter_of
        self._server: asyncio.Server | None = None
        self._conditions = {way: Conditions() for way in Way}
        self._refusing = False
        self._failure: Exception | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections: set[LinkConnection] = set()
        self.accepted = 0

    @property
    def port(self) -> int:
        assert self._server is not None, "the link is not open"
        number: int = self._server.sockets[0].getsockname()[1]
        return number

    @property
    def address(self) -> str:
        """host:port, as gRPC wants it."""
        return f"{LOOPBACK}:{self.port}"

    def url(self, target: str) -> str:
        """The URL of the server (postgresql://, nats://, https://) with this link's address in place of its own."""
        parts = urlsplit(target)
        who, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{who}{at}{self.address}"))

    def cut(self) -> None:
        """Closes all that is open, as a peer that ends in order does (FIN). FaultFailed if nothing is open."""
        for connection in self._open():
            connection.cut()

    def reset(self) -> None:
        """Resets all that is open (RST), as a peer does that has forgotten the connection."""
        for connection in self._open():
            connection.reset()

    @contextmanager
    def blackholed(self, *ways: Way, lost: bool = False) -> Iterator[None]:
        """Nothing passes the given ways, or neither way, and nobody is told. One way only: half open."""
        ways = ways or tuple(Way)
        for way in ways:
            self._conditions[way].hold()
        before = set(self.connections)
        try:
            yield
        finally:
            if lost:
                for connection in before & self.connections:
                    connection.reset()
            for way in ways:
                self._conditions[way].release()

    @contextmanager
    def delayed(self, seconds: float, *ways: Way) -> Iterator[None]:
        """Each byte arrives so much later; the bandwidth is as before."""
        before = {way: self._conditions[way].delay_s for way in ways or tuple(Way)}
        for way in before:
            self._conditions[way].delay_s = seconds
        try:
            yield
        finally:
            for way, delay_s in before.items():
                self._conditions[way].delay_s = delay_s

    @contextmanager
    def throttled(self, bytes_per_s: float, *ways: Way) -> Iterator[None]:
        """Each connection carries no more than so much, each way."""
        before = {way: self._conditions[way].bytes_per_s for way in ways or tuple(Way)}
        for way in before:
            self._conditions[way].bytes_per_s = bytes_per_s
        try:
            yield
        finally:
            for way, rate in before.items():
                self._conditions[way].bytes_per_s = rate

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """New connections are reset at once; those that are open go on."""
        self._refusing = True
        try:
            yield
        finally:
            self._refusing = False

    @contextmanager
    def away(self) -> Iterator[None]:
        """The server seems to have gone: what is open is reset, and nothing new comes about."""
        with self.refusing():
            for connection in list(self.connections):
                connection.reset()
            yield

    async def until(self, condition: Callable[[LinkConnection], bool], timeout_s: float = 10.0) -> LinkConnection:
        """The first open connection of which that is true. FaultFailed when there is none in time."""
        deadline = time.monotonic() + timeout_s
        while True:
            for connection in self.connections:
                if condition(connection):
                    return connection
            if time.monotonic() > deadline:
                raise FaultFailed(f"no connection became so within {timeout_s:g} s")
            await asyncio.sleep(0.005)

    async def __aenter__(self) -> TcpLink:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._failure is not None:
            raise FaultFailed("the link itself failed") from self._failure

    def _open(self) -> list[LinkConnection]:
        if not self.connections:
            raise FaultFailed("no connection is open")
        return list(self.connections)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        up, down = self._conditions[Way.TO_SERVER], self._conditions[Way.TO_CLIENT]
        connection = LinkConnection(reader, writer, up=up, down=down)
        try:
            if self._refusing:
                connection.reset()
                return
            self.connections.add(connection)
            filter_ = self._filter_of() if self._filter_of is not None else None
            await connection.run(self._target, filter_)
        except Exception as failure:
            self._failure = failure
        finally:
            connection.reset()
            self.connections.discard(connection)
            self._tasks.discard(task)
