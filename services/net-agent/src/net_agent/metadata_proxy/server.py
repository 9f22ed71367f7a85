"""The side that guests see: what each of them may have, and what it is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from net_agent.metadata_proxy import signing
from net_agent.metadata_proxy.connection import Answer, Question
from net_agent.metadata_proxy.guest import READ_OCTETS, GuestConnection
from net_agent.metadata_proxy.memory import Memory
from net_agent.metadata_proxy.requests import Refused, Request
from net_agent.metadata_proxy.upstream import Upstream, UpstreamAway

# A flat network may have many guests on one host, and they may all start at once.
MAX_CONNECTIONS = 1024
# One guest can't take the proxy from the others.
MAX_CONNECTIONS_PER_ADDRESS = 16
RETRY_AFTER_S = 5
# How long the service is waited for by who can be answered without it: tiny clients give up after five seconds.
SPARED_S = 2.0
# They concern the guest's connection; the service has its own.
_OURS = (b"host", b"content-length")

Log = Callable[..., None]


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
        self._connections: dict[str, int] = {}
        self._total = 0
        self._buffer = memoryview(bytearray(READ_OCTETS))

    def connection(self) -> GuestConnection:
        """One of a guest, for `loop.create_server`."""
        return GuestConnection(self, self._buffer)

    def enter(self, address: str) -> bool:
        own = self._connections.get(address, 0)
        if self._total >= MAX_CONNECTIONS or own >= MAX_CONNECTIONS_PER_ADDRESS:
            return False
        self._connections[address] = own + 1
        self._total += 1
        return True

    def leave(self, address: str) -> None:
        self._total -= 1
        self._connections[address] -= 1
        if not self._connections[address]:
            del self._connections[address]

    async def answer(self, request: Request, address: str) -> Answer:
        method, target = request.method.decode("ascii"), request.target.decode("ascii")
        if not target.startswith("/"):
            raise Refused(400, "only a path can be asked for")
        if method == "PUT" and any(name == b"x-forwarded-for" for name, _ in request.headers):
            # As EC2: session tokens are not for whom a guest forwards for.
            raise Refused(403, "a session token is for the guest itself, not for others through it")
        started = time.monotonic()
        try:
            answer = await self._ask(address, self._question(request, address, target))
        except UpstreamAway as error:
            self._log(event="the metadata service is away", error=str(error), address=address, path=target)
            raise Refused(503, "the metadata service is away", retry_after_s=RETRY_AFTER_S) from error
        took_ms = round((time.monotonic() - started) * 1000, 1)
        self._log(event="request", address=address, method=method, path=target, status=answer.status, ms=took_ms)
        return answer

    def _question(self, request: Request, address: str, target: str) -> Question:
        """In the guest's name. HEAD is GET to the service: the guest's connection leaves the body out."""
        method = "GET" if request.method == b"HEAD" else request.method.decode("ascii")
        theirs = signing.without_forgeries(signing.end_to_end(request.headers))
        kept = [(name, value) for name, value in theirs if name not in _OURS]
        sender, path = self._sender, target.partition("?")[0]
        proof = signing.signature(sender.key, sender.host, sender.network_id, address, method, path)
        own = [
            (signing.HOST_HEADER, sender.host.encode()),
            (signing.NETWORK_HEADER, sender.network_id.encode()),
            (signing.ADDRESS_HEADER, address.encode()),
            (signing.SIGNATURE_HEADER, proof.encode()),
        ]
        return Question(method.encode(), request.target, own + kept, request.body)

    async def _ask(self, address: str, question: Question) -> Answer:
        """The service's answer, or its last one while it is away or can't say. Raises UpstreamAway."""
        try:
            if self._memory.knows(address, question):
                async with asyncio.timeout(SPARED_S):
                    answer = await self._upstream.ask(address, question)
            else:
                answer = await self._upstream.ask(address, question)
        except (UpstreamAway, TimeoutError) as error:
            if (former := self._memory.recall(address, question)) is None:
                raise UpstreamAway(str(error) or f"no answer within {SPARED_S} s") from error
            return former
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return self._memory.recall(address, question) or answer
        self._memory.note(address, question, answer)
        return answer
