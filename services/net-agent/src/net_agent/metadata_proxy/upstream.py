"""The metadata service as a proxy sees it: several replicas, any of which will do, over few connections.

A burst of guests must not become a burst of TLS handshakes: a request waits for a connection that others use, and one
guest never has all of them.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from net_agent.metadata_proxy.connection import Answer, Connection, NoAnswer, Question

CONNECT_TIMEOUT_S = 4.0
RESPONSE_TIMEOUT_S = 10.0
# While there is another replica to ask: cloud-init gives an answer five to ten seconds.
IMPATIENT_S = 4.0
# A replica that did not answer is asked last for so long.
AVOID_S = 10.0
MAX_REQUESTS = 8
MAX_REQUESTS_PER_GUEST = 2
# Below the time after which the service closes an idle connection.
_IDLE_S = 60.0
_IDLE_CONNECTIONS = 8


class UpstreamAway(Exception):
    """No replica could be reached, or none answered."""


class Upstream:
    """Asks the service. urls: "https://host:port", of several replicas separated by commas."""

    def __init__(self, urls: str, tls: ssl.SSLContext | None) -> None:
        self._replicas = [_Replica(url.strip(), tls) for url in urls.split(",")]
        self._turns = _Turns()
        self._first = 0

    async def ask(self, guest: str, question: Question) -> Answer:
        """Raises UpstreamAway. A question may reach more than one replica: none does harm when it is asked twice."""
        async with self._turns.one(guest):
            candidates = list(self._in_turn())
            for replica in candidates:
                patience_s = RESPONSE_TIMEOUT_S if replica is candidates[-1] else IMPATIENT_S
                try:
                    return await replica.ask(question, patience_s)
                except UpstreamAway as error:
                    replica.avoid()
                    last = error
        raise last

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
        self._idle: list[Connection] = []
        self._avoided_until = 0.0

    @property
    def avoided(self) -> bool:
        return asyncio.get_running_loop().time() < self._avoided_until

    async def ask(self, question: Question, patience_s: float) -> Answer:
        """Raises UpstreamAway. A kept connection that turns out to be closed is replaced, once each."""
        try:
            async with asyncio.timeout(patience_s):
                while (kept := self._rested()) is not None:
                    try:
                        return await self._exchange(kept, question)
                    except NoAnswer:
                        continue
                return await self._exchange(await self._connect(), question)
        except TimeoutError as error:
            raise UpstreamAway(f"{self._host}:{self._port}: no answer within {patience_s:g} s") from error
        except NoAnswer as error:
            raise UpstreamAway(f"{self._host}:{self._port}: {error}") from error

    async def _exchange(self, connection: Connection, question: Question) -> Answer:
        try:
            answer, more = await connection.exchange(self._host_header, question)
        except BaseException:
            connection.close()
            raise
        if more and len(self._idle) < _IDLE_CONNECTIONS:
            connection.rest()
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    def _rested(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.rested_for() < _IDLE_S:
                return connection
            connection.close()
        return None

    async def _connect(self) -> Connection:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await Connection.open(self._host, self._port, self._tls)
        except (OSError, TimeoutError) as error:
            raise UpstreamAway(f"{self._host}:{self._port}: {error or 'no connection in time'}") from error

    def avoid(self) -> None:
        """It is asked last for a while, and over none of the connections that it has."""
        self._avoided_until = asyncio.get_running_loop().time() + AVOID_S
        self.close()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()


class _Turns:
    """So many requests at once: of all guests, and of each."""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(MAX_REQUESTS)
        self._of_guest: dict[str, asyncio.Semaphore] = {}
        self._asking: Counter[str] = Counter()

    @asynccontextmanager
    async def one(self, guest: str) -> AsyncIterator[None]:
        own = self._of_guest.setdefault(guest, asyncio.Semaphore(MAX_REQUESTS_PER_GUEST))
        self._asking[guest] += 1
        try:
            async with own, self._all:
                yield
        finally:
            self._asking[guest] -= 1
            if not self._asking[guest]:
                del self._asking[guest], self._of_guest[guest]
