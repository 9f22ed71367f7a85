"""The metadata service as a proxy sees it: several replicas, any of which will do, over one connection each.

A burst of guests must not become a burst of TLS handshakes, and no guest takes the connection from the others: it has
few questions at a time, and what may take the service long is asked over a connection of its own.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from net_agent.metadata_proxy.connection import Answer, Connection, NoAnswer, Question
from net_agent.metadata_proxy.signing import INSTANCE_HEADER

CONNECT_TIMEOUT_S = 4.0
RESPONSE_TIMEOUT_S = 10.0
# While there is another replica to ask: cloud-init gives an answer five to ten seconds.
IMPATIENT_S = 4.0
# A replica that did not answer is asked last for so long.
AVOID_S = 10.0
MAX_REQUESTS = 128
MAX_REQUESTS_PER_GUEST = 2
MAX_REQUESTS_ALONE = 4
MAX_STRANGERS = 1024
# Below the time after which the service closes an idle connection.
_IDLE_S = 60.0
_INSTANCE = INSTANCE_HEADER.lower()


class UpstreamAway(Exception):
    """No replica could be reached, or none answered."""


class Upstream:
    """Asks the service. urls: "https://host:port", of several replicas separated by commas."""

    def __init__(self, urls: str, tls: ssl.SSLContext | None) -> None:
        self._replicas = [_Replica(url.strip(), tls) for url in urls.split(",")]
        self._turns = _Turns()
        self._strangers: OrderedDict[str, None] = OrderedDict()
        self._first = 0

    async def ask(self, guest: str, question: Question) -> Answer:
        """Raises UpstreamAway. A question may reach more than one replica: none does harm when it is asked twice.

        Not HEAD: it is GET to whoever asks.
        """
        alone = question.method == b"POST" or guest in self._strangers
        async with self._turns.one(guest, alone):
            candidates = list(self._in_turn())
            for replica in candidates:
                patience_s = RESPONSE_TIMEOUT_S if replica is candidates[-1] else IMPATIENT_S
                try:
                    answer = await replica.ask(question, patience_s, alone)
                except UpstreamAway as error:
                    last = error
                else:
                    self._note(guest, answer)
                    return answer
        raise last

    def _note(self, guest: str, answer: Answer) -> None:
        """Whom the service doesn't know, it looks for; nobody else shall wait for that a second time."""
        if answer.status != 404 or any(name.lower() == _INSTANCE for name, _ in answer.headers):
            self._strangers.pop(guest, None)
            return
        self._strangers[guest] = None
        if len(self._strangers) > MAX_STRANGERS:
            self._strangers.popitem(last=False)

    def _in_turn(self) -> Iterator[_Replica]:
        """Each replica once, another first each time; those that are avoided in the end."""
        self._first = (self._first + 1) % len(self._replicas)
        ordered = self._replicas[self._first :] + self._replicas[: self._first]
        return iter(sorted(ordered, key=lambda replica: replica.avoided))

    def close(self) -> None:
        for replica in self._replicas:
            replica.close()


class _Replica:
    def __init__(self, url: str, tls: ssl.SSLContext | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not the address of a metadata service")
        self._host_header = parts.netloc.encode("ascii")
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = tls if parts.scheme == "https" else None
        self._shared: asyncio.Task[Connection] | None = None
        self._avoided_until = 0.0

    @property
    def avoided(self) -> bool:
        return asyncio.get_running_loop().time() < self._avoided_until

    async def ask(self, question: Question, patience_s: float, alone: bool) -> Answer:
        """Raises UpstreamAway, and is avoided for a while then."""
        octets = question.to_octets(self._host_header)
        try:
            async with asyncio.timeout(patience_s):
                return await (self._ask_alone(octets) if alone else self._ask(octets))
        except TimeoutError as error:
            if not alone:
                self._drop()
            raise self._away(f"no answer within {patience_s:g} s") from error
        except (OSError, NoAnswer) as error:
            raise self._away(str(error)) from error

    def _away(self, why: str) -> UpstreamAway:
        self._avoided_until = asyncio.get_running_loop().time() + AVOID_S
        return UpstreamAway(f"{self._host}:{self._port}: {why}")

    async def _ask(self, octets: bytes) -> Answer:
        """A connection that turns out to be closed is replaced."""
        while True:
            connection = await self._connection()
            proven = connection.has_answered
            try:
                return await connection.ask(octets)
            except NoAnswer:
                if not proven or self.avoided:
                    raise

    async def _ask_alone(self, octets: bytes) -> Answer:
        connection = await self._connect()
        try:
            return await connection.ask(octets)
        finally:
            connection.close()

    async def _connection(self) -> Connection:
        """The one that all share; who comes while it is being made waits for the same."""
        if self._shared is None or _is_spent(self._shared):
            self._drop()
            self._shared = asyncio.get_running_loop().create_task(self._connect())
            self._shared.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._shared)

    async def _connect(self) -> Connection:
        """Raises OSError, NoAnswer."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await Connection.open(self._host, self._port, self._tls)
        except TimeoutError as error:
            raise NoAnswer("no connection in time") from error

    def _drop(self) -> None:
        """What was asked over the shared connection has no answer. One that is being made ends by itself."""
        if self._shared is not None and _is_open(self._shared):
            self._shared.result().close()

    def close(self) -> None:
        """Nobody asks any more."""
        self._drop()
        if self._shared is not None:
            self._shared.cancel()


def _is_open(shared: asyncio.Task[Connection]) -> bool:
    return shared.done() and not shared.cancelled() and shared.exception() is None


def _is_spent(shared: asyncio.Task[Connection]) -> bool:
    return shared.done() and (not _is_open(shared) or shared.result().rested_for() >= _IDLE_S)


class _Turns:
    """So many requests at once: of all guests, of those that are asked alone, and of each guest."""

    def __init__(self) -> None:
        self._shared = asyncio.Semaphore(MAX_REQUESTS)
        self._alone = asyncio.Semaphore(MAX_REQUESTS_ALONE)
        self._of_guest: dict[str, asyncio.Semaphore] = {}
        self._asking: Counter[str] = Counter()

    @asynccontextmanager
    async def one(self, guest: str, alone: bool) -> AsyncIterator[None]:
        own = self._of_guest.setdefault(guest, asyncio.Semaphore(MAX_REQUESTS_PER_GUEST))
        self._asking[guest] += 1
        try:
            async with own, self._alone if alone else self._shared:
                yield
        finally:
            self._asking[guest] -= 1
            if not self._asking[guest]:
                del self._asking[guest], self._of_guest[guest]
