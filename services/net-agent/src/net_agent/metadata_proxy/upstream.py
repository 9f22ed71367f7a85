"""Connections to the metadata service: HTTP/1.1 with keep-alive, parsed by h11."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

import h11

from net_agent.metadata_proxy.signing import Headers

CONNECT_TIMEOUT_S = 5.0
RESPONSE_TIMEOUT_S = 10.0
# Below the five seconds after which common servers close an idle connection.
_IDLE_S = 3.0
_IDLE_CONNECTIONS = 4
_READ_OCTETS = 65_536


class UpstreamAway(Exception):
    """The service couldn't be reached, or didn't begin to answer; nothing of an answer has been passed on."""


class UpstreamBroke(Exception):
    """The answer stopped half-way, or was no HTTP."""


class _Stale(Exception):
    """A kept connection had been closed by the service before it took the request."""


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, now: float) -> None:
        self.reader = reader
        self.writer = writer
        self.http = h11.Connection(h11.CLIENT)
        self.idle_since = now

    async def send(self, request: h11.Request, body: bytes) -> None:
        content = self.http.send(request) or b""
        if body:
            content += self.http.send(h11.Data(data=body)) or b""
        content += self.http.send(h11.EndOfMessage()) or b""
        self.writer.write(content)
        await self.writer.drain()

    async def next_event(self) -> h11.Event | type[h11.PAUSED]:
        while (event := self.http.next_event()) is h11.NEED_DATA:
            async with asyncio.timeout(RESPONSE_TIMEOUT_S):
                self.http.receive_data(await self.reader.read(_READ_OCTETS))
        return event  # type: ignore[return-value]

    def reusable(self) -> bool:
        return self.http.our_state is h11.DONE and self.http.their_state is h11.DONE

    def close(self) -> None:
        self.writer.close()


class Answer:
    """The head of an answer; its body is still on its way. Whoever has it must `release` it in the end."""

    def __init__(
        self, response: h11.Response, connection: _Connection, give_back: Callable[[_Connection], None]
    ) -> None:
        self.status = response.status_code
        self.reason = bytes(response.reason)
        self.headers: Headers = list(response.headers)
        self._connection = connection
        self._give_back = give_back

    async def body(self) -> AsyncIterator[bytes]:
        """In pieces, as they come. Raises UpstreamBroke."""
        try:
            while not isinstance(event := await self._connection.next_event(), h11.EndOfMessage):
                if not isinstance(event, h11.Data):
                    raise UpstreamBroke("the answer ended early")
                yield bytes(event.data)
        except (ConnectionError, TimeoutError, h11.RemoteProtocolError) as error:
            raise UpstreamBroke(str(error) or "the answer stopped") from error

    def release(self) -> None:
        self._give_back(self._connection)


class Upstream:
    """Asks the service; keeps a few connections for the next questions. url: "https://host:port"."""

    def __init__(self, url: str, tls: ssl.SSLContext | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not the address of a metadata service")
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = tls if parts.scheme == "https" else None
        self._idle: list[_Connection] = []
        self.host_header = parts.netloc.encode("ascii")

    async def ask(self, method: bytes, target: bytes, headers: Headers, body: bytes) -> Answer:
        """Raises UpstreamAway. A kept connection that turns out to be closed is replaced, once each."""
        request = h11.Request(method=method, target=target, headers=headers)
        while True:
            connection, kept = await self._take()
            try:
                return await self._exchange(connection, request, body)
            except _Stale as error:
                connection.close()
                if not kept:
                    raise UpstreamAway("the service closed the connection without an answer") from error
            except BaseException:
                connection.close()
                raise

    async def _exchange(self, connection: _Connection, request: h11.Request, body: bytes) -> Answer:
        try:
            await connection.send(request, body)
            event = await connection.next_event()
            while isinstance(event, h11.InformationalResponse):
                event = await connection.next_event()
        except (ConnectionError, h11.RemoteProtocolError) as error:
            raise _Stale from error
        except TimeoutError as error:
            raise UpstreamAway(f"no answer within {RESPONSE_TIMEOUT_S:g} s") from error
        if not isinstance(event, h11.Response):
            raise _Stale
        return Answer(event, connection, self._give_back)

    async def _take(self) -> tuple[_Connection, bool]:
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection = self._idle.pop()
            if now - connection.idle_since < _IDLE_S and not connection.reader.at_eof():
                return connection, True
            connection.close()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls)
        except (OSError, TimeoutError) as error:
            # ssl.SSLError is an OSError.
            raise UpstreamAway(f"{self._host}:{self._port}: {error or 'no connection in time'}") from error
        return _Connection(reader, writer, now), False

    def _give_back(self, connection: _Connection) -> None:
        if not connection.reusable() or len(self._idle) >= _IDLE_CONNECTIONS:
            connection.close()
            return
        connection.http.start_next_cycle()
        connection.idle_since = asyncio.get_running_loop().time()
        self._idle.append(connection)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()
