"""One connection to a replica of the metadata service: HTTP/1.1 with keep-alive, parsed by h11."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass

import h11

from net_agent.metadata_proxy.signing import Headers

# User data have 64 KiB at most.
MAX_ANSWER_OCTETS = 1024 * 1024
_READ_OCTETS = 65_536


@dataclass(frozen=True, slots=True)
class Answer:
    """Whole: what breaks off half-way is none."""

    status: int
    reason: bytes
    headers: Headers
    body: bytes


class NoAnswer(Exception):
    """The service closed the connection, or what it said was no HTTP."""


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT)
        self._rests_since = 0.0

    @classmethod
    async def open(cls, host: str, port: int, tls: ssl.SSLContext | None) -> Connection:
        """Raises OSError; ssl.SSLError is one."""
        return cls(*await asyncio.open_connection(host, port, ssl=tls))

    async def exchange(self, request: h11.Request, body: bytes) -> Answer:
        """Raises NoAnswer."""
        try:
            await self._send(request, body)
            event = await self._next_event()
            while isinstance(event, h11.InformationalResponse):
                event = await self._next_event()
            if not isinstance(event, h11.Response):
                raise NoAnswer("the service closed the connection without an answer")
            return Answer(event.status_code, bytes(event.reason), list(event.headers), await self._body())
        except (ConnectionError, h11.RemoteProtocolError) as error:
            raise NoAnswer(str(error) or "the connection broke") from error

    def rest(self) -> bool:
        """Makes it ready for another request; False if it can carry none."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        self._rests_since = asyncio.get_running_loop().time()
        return True

    def rested_for(self) -> float:
        """Seconds; endless when the service has closed it."""
        if self._reader.at_eof():
            return float("inf")
        return asyncio.get_running_loop().time() - self._rests_since

    def close(self) -> None:
        self._writer.close()

    async def _send(self, request: h11.Request, body: bytes) -> None:
        content = self._http.send(request) or b""
        if body:
            content += self._http.send(h11.Data(data=body)) or b""
        content += self._http.send(h11.EndOfMessage()) or b""
        self._writer.write(content)
        await self._writer.drain()

    async def _body(self) -> bytes:
        body = bytearray()
        while isinstance(event := await self._next_event(), h11.Data):
            body += event.data
            if len(body) > MAX_ANSWER_OCTETS:
                raise NoAnswer(f"the answer has more than {MAX_ANSWER_OCTETS} octets")
        if not isinstance(event, h11.EndOfMessage):
            raise NoAnswer("the answer ended early")
        return bytes(body)

    async def _next_event(self) -> h11.Event | type[h11.PAUSED]:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(_READ_OCTETS))
        return event  # type: ignore[return-value]
