"""The side that guests see. What they send is hostile: everything has a limit in size, number and time."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

import h11

from net_agent.metadata_proxy import signing
from net_agent.metadata_proxy.connection import Answer, Question
from net_agent.metadata_proxy.memory import Memory
from net_agent.metadata_proxy.upstream import Upstream, UpstreamAway

MAX_HEAD_OCTETS = 16_384
MAX_BODY_OCTETS = 65_536
# A flat network may have many guests on one host, and they may all start at once.
MAX_CONNECTIONS = 1024
# One guest can't take the proxy from the others.
MAX_CONNECTIONS_PER_ADDRESS = 16
REQUEST_TIMEOUT_S = 10.0
WRITE_TIMEOUT_S = 10.0
RETRY_AFTER_S = 5
# How long the service is waited for by who can be answered without it: tiny clients give up after five seconds.
SPARED_S = 2.0
# h11 looks at the limit after each read: the smaller, the closer it is kept.
READ_OCTETS = 4_096

Log = Callable[..., None]
# (request, its body, the guest's address) → the answer to pass on.
Answerer = Callable[[h11.Request, bytes, str], Awaitable[Answer]]


class _Refused(Exception):
    """A request that isn't passed on."""

    def __init__(self, status: int, text: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Sender:
    """Who this proxy speaks for."""

    host: str
    network_id: str
    key: bytes


class MetadataProxy:
    def __init__(self, sender: Sender, upstream: Upstream, memory: Memory, log: Log) -> None:
        self._sender = sender
        self._upstream = upstream
        self._memory = memory
        self._log = log
        self._connections: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a guest, for `asyncio.start_server`."""
        # Without the zone of an address that is good on one link.
        address = str(writer.get_extra_info("peername")[0]).partition("%")[0]
        full = self._connections.total() >= MAX_CONNECTIONS
        if full or self._connections[address] >= MAX_CONNECTIONS_PER_ADDRESS:
            writer.close()
            return
        self._connections[address] += 1
        try:
            await _Client(reader, writer, address).converse(self._answer)
        except (ConnectionError, TimeoutError, h11.LocalProtocolError):
            # The guest went away, or takes too long: there is nobody to tell.
            writer.transport.abort()
        finally:
            self._connections[address] -= 1
            self._connections += Counter()  # forgets those at zero
            writer.close()

    async def _answer(self, request: h11.Request, body: bytes, address: str) -> Answer:
        """Raises _Refused."""
        method, target = request.method.decode("ascii"), request.target.decode("ascii")
        if not target.startswith("/"):
            raise _Refused(400, "only a path can be asked for")
        if method == "PUT" and any(name == b"x-forwarded-for" for name, _ in request.headers):
            # As EC2: session tokens are not for whom a guest forwards for.
            raise _Refused(403, "a session token is for the guest itself, not for others through it")
        started = time.monotonic()
        try:
            headers = self._headers(request, address, method, target)
            answer = await self._ask(address, Question(request.method, request.target, headers, body))
        except UpstreamAway as error:
            self._log(event="the metadata service is away", error=str(error), address=address, path=target)
            raise _Refused(503, "the metadata service is away", retry_after_s=RETRY_AFTER_S) from error
        took_ms = round((time.monotonic() - started) * 1000, 1)
        self._log(event="request", address=address, method=method, path=target, status=answer.status, ms=took_ms)
        return answer

    async def _ask(self, address: str, question: Question) -> Answer:
        """The service's answer, or its last one while it is away or can't say. Raises UpstreamAway."""
        patience_s = SPARED_S if self._memory.knows(address, question) else None
        try:
            async with asyncio.timeout(patience_s):
                answer = await self._upstream.ask(address, question)
        except (UpstreamAway, TimeoutError) as error:
            if (former := self._memory.recall(address, question)) is None:
                raise UpstreamAway(str(error) or f"no answer within {patience_s} s") from error
            return former
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return self._memory.recall(address, question) or answer
        self._memory.note(address, question, answer)
        return answer

    def _headers(self, request: h11.Request, address: str, method: str, target: str) -> signing.Headers:
        theirs = signing.without_forgeries(signing.end_to_end(request.headers))
        kept = [(name, value) for name, value in theirs if name not in (b"host", b"content-length")]
        sender, path = self._sender, target.partition("?")[0]
        proof = signing.signature(sender.key, sender.host, sender.network_id, address, method, path)
        own = [
            (signing.HOST_HEADER, sender.host.encode()),
            (signing.NETWORK_HEADER, sender.network_id.encode()),
            (signing.ADDRESS_HEADER, address.encode()),
            (signing.SIGNATURE_HEADER, proof.encode()),
        ]
        return own + kept


class _Client:
    """A guest's connection: requests one after the other, as long as it keeps it open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str) -> None:
        self._reader = reader
        self._writer = writer
        self._address = address
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_OCTETS)

    async def converse(self, answer: Answerer) -> None:
        while True:
            try:
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    request = await self._next_request()
                    if request is None:
                        return
                    body = await self._read_body()
                await self._pass_on(await answer(request, body, self._address))
            except _Refused as refused:
                await self._refuse(refused)
            except h11.RemoteProtocolError as error:
                await self._refuse(_Refused(error.error_status_hint, "not a request that HTTP knows"))
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()

    async def _next_event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            self._http.receive_data(await self._reader.read(READ_OCTETS))
        return event

    async def _next_request(self) -> h11.Request | None:
        event = await self._next_event()
        return event if isinstance(event, h11.Request) else None

    async def _read_body(self) -> bytes:
        """Whole: requests are small, and the service isn't bothered with half of one."""
        body = bytearray()
        while isinstance(event := await self._next_event(), h11.Data):
            body += event.data
            if len(body) > MAX_BODY_OCTETS:
                raise _Refused(413, f"more than {MAX_BODY_OCTETS} octets")
        if not isinstance(event, h11.EndOfMessage):
            raise ConnectionResetError("the request ended early")
        return bytes(body)

    async def _pass_on(self, answer: Answer) -> None:
        headers = signing.without_forgeries(signing.end_to_end(answer.headers))
        if answer.body and not any(name.lower() == b"content-length" for name, _ in headers):
            headers.append((b"Content-Length", str(len(answer.body)).encode()))
        await self._send(
            h11.Response(status_code=answer.status, reason=answer.reason, headers=headers),
            h11.Data(data=answer.body),
            h11.EndOfMessage(),
        )

    async def _refuse(self, refused: _Refused) -> None:
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            raise ConnectionAbortedError("too late to refuse")
        text = f"{refused.text}\n".encode()
        phrase = HTTPStatus(refused.status).phrase.encode()
        headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))]
        if refused.retry_after_s is not None:
            headers.append(("Retry-After", str(refused.retry_after_s)))
        if self._http.their_state is not h11.DONE:
            headers.append(("Connection", "close"))
        await self._send(
            h11.Response(status_code=refused.status, reason=phrase, headers=headers),
            h11.Data(data=text),
            h11.EndOfMessage(),
        )

    async def _send(self, *events: h11.Event) -> None:
        """In one piece."""
        content = b"".join(self._http.send(event) or b"" for event in events)
        if content:
            self._writer.write(content)
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await self._writer.drain()
