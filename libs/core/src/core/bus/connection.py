"""One connection to NATS that never gives up.

nats-py reconnects by itself, except when the server ends the connection with an error (an expired token, a
revoked user): then its client is closed for good. `Bus` replaces a closed client and carries the subscriptions
over, so that whoever holds a `Bus` need not know. Nothing is buffered while the connection is down: a publish
fails at once, and those who must not lose it (`core.bus.publish`, the relay) try again themselves.
"""

from __future__ import annotations

import asyncio
import ssl
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nats.errors
import structlog
from google.protobuf.message import Message
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext

from core.bus.client import BusClient, Sink
from core.bus.subjects import Subjects

log = structlog.get_logger(__name__)

JETSTREAM_TIMEOUT_S = 5.0
# A dead peer is noticed after at most three pings: a partition sends no reset.
_PING_INTERVAL_S = 3
_MAX_OUTSTANDING_PINGS = 2
_RECONNECT_WAIT_S = 0.25
_CONNECT_TIMEOUT_S = 2

Handler = Callable[[Msg], Awaitable[None]]


async def _ignore(*_: object) -> None:
    """Whoever dialled finds out by itself."""


_ALONE = {
    "allow_reconnect": False,
    "max_reconnect_attempts": 0,
    **dict.fromkeys(("error_cb", "disconnected_cb", "reconnected_cb", "closed_cb"), _ignore),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    servers: tuple[str, ...]
    cell: str
    name: str
    credentials: Path | None
    inbox_prefix: str
    tls: ssl.SSLContext | None
    rest_s: float = 0.0


class BusPouring:
    """A core-NATS subscription to very many messages, which outlives the client it was made on."""

    def __init__(self, subject: str, sink: Sink) -> None:
        self._subject = subject
        self._sink = sink

    async def attach(self, client: BusClient) -> None:
        await client.pour(self._subject, self._receive)

    def _receive(self, subject: bytes, data: bytes) -> None:
        try:
            self._sink(subject, data)
        except Exception as error:
            _log_failure(subject.decode(errors="replace"), error)


class BusSubscription:
    """A core-NATS subscription that outlives the client it was made on."""

    def __init__(self, bus: Bus, subject: str, handler: Handler, queue: str) -> None:
        self.subject = subject
        self._bus = bus
        self._handler = handler
        self._queue = queue
        self._subscription: Subscription | None = None

    async def attach(self, client: Client) -> None:
        self._subscription = await client.subscribe(self.subject, queue=self._queue, cb=self._receive)

    async def _receive(self, message: Msg) -> None:
        try:
            await self._handler(message)
        except Exception as error:
            _log_failure(message.subject, error)

    async def unsubscribe(self) -> None:
        self._bus.forget(self)
        if self._subscription is not None and not self._bus.nc.is_closed:
            await self._subscription.unsubscribe()


def _log_failure(subject: str, error: Exception) -> None:
    trace = "".join(traceback.format_exception(error))
    log.error("bus.handler_failed", subject=subject, error=repr(error), traceback=trace)


class Bus:
    """The connection of one process. `nc` and `js` are replaced when the client had to be: don't keep them."""

    nc: BusClient
    js: JetStreamContext

    def __init__(self, options: ConnectionOptions) -> None:
        self._options = options
        self.cell = options.cell
        self.name = options.name
        self.subjects = Subjects(options.cell)
        self._subscriptions: set[BusSubscription | BusPouring] = set()
        self._listeners: set[Callable[[], None]] = set()
        self._connected = asyncio.Event()
        self._closing = False
        self._revival: asyncio.Task[None] | None = None
        self._last_error = ""

    @property
    def connected(self) -> bool:
        return self._connected.is_set() and self.nc.is_connected

    @property
    def servers(self) -> tuple[str, ...]:
        """The URLs that it was given."""
        return self._options.servers

    @property
    def server_name(self) -> str:
        """Of the NATS server that it is connected to; empty while there is none."""
        return self.nc.server_name if self.connected else ""

    async def dial(self, url: str) -> BusClient:
        """A connection with the same identity to this one server, which never moves to another: it ends instead.

        The caller closes it. Raises nats.errors.Error, OSError or TimeoutError when the server can't be reached.
        """
        client = BusClient()
        await client.connect(**self._client_options() | _ALONE | {"servers": [url]})
        return client

    async def another(self, purpose: str, *, rest_s: float) -> Bus:
        """One more connection with the same identity, to hear much on: it reads, then rests for so long.

        The caller closes it.
        """
        options = self._options
        bus = Bus(replace(options, name=f"{options.name}/{purpose}", rest_s=rest_s))
        await bus.open()
        return bus

    async def wait_connected(self) -> None:
        """Returns once NATS is reached; waits for ever."""
        while not self.connected:
            self._connected.clear()
            if self.nc.is_connected:
                self._connected.set()
            else:
                await self._connected.wait()

    def on_connected(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Calls `listener` after each (re)connection; returns what takes it off again. It must not block."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    async def subscribe(self, subject: str, handler: Handler, *, queue: str = "") -> BusSubscription:
        """Core NATS: at most once, in order. The handler's exceptions are logged, and the next message comes."""
        subscription = BusSubscription(self, subject, handler, queue)
        self._subscriptions.add(subscription)
        if not self.nc.is_closed:
            await subscription.attach(self.nc)
        return subscription

    async def pour(self, subject: str, sink: Sink) -> None:
        """Core NATS, as `subscribe` for as long as the bus lives, for tens of thousands of messages a second.

        The sink must not block. What it raises is logged, and the next message comes.
        """
        pouring = BusPouring(subject, sink)
        self._subscriptions.add(pouring)
        if not self.nc.is_closed:
            await pouring.attach(self.nc)

    def forget(self, subscription: BusSubscription) -> None:
        self._subscriptions.discard(subscription)

    async def publish(self, subject: str, data: bytes, headers: Mapping[str, str] | None = None) -> bool:
        """Core NATS, at most once: False when it could not even be sent."""
        try:
            await self.nc.publish(subject, data, headers=dict(headers) if headers else None)
        except (nats.errors.OutboundBufferLimitError, nats.errors.ConnectionClosedError):
            return False
        return True

    async def publish_heartbeat(self, subject: str, heartbeat: Message) -> bool:
        """A heartbeat that can't be sent now is dropped: a late one would say what is no longer known."""
        return await self.publish(subject, heartbeat.SerializeToString())

    async def publish_progress(self, subject: str, progress: Message) -> bool:
        """Progress is for those who look right now: it is neither stored nor repeated."""
        return await self.publish(subject, progress.SerializeToString())

    async def close(self) -> None:
        """Ends the connection and every subscription; no reconnection follows."""
        self._closing = True
        if self._revival is not None:
            self._revival.cancel()
            await asyncio.gather(self._revival, return_exceptions=True)
        self._connected.clear()
        await self.nc.close()

    async def open(self) -> None:
        """Makes a client and waits until it is connected, however long that takes."""
        client = BusClient(rest_s=self._options.rest_s)
        self.nc = client
        await client.connect(**self._client_options())
        self.js = client.jetstream(timeout=JETSTREAM_TIMEOUT_S)
        for subscription in self._subscriptions:
            await subscription.attach(client)
        self._announce("connected")

    def _client_options(self) -> dict[str, Any]:
        options = self._options
        return {
            "servers": list(options.servers),
            "name": options.name,
            "user_credentials": options.credentials,
            "inbox_prefix": options.inbox_prefix,
            "tls": options.tls,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": _RECONNECT_WAIT_S,
            "connect_timeout": _CONNECT_TIMEOUT_S,
            "ping_interval": _PING_INTERVAL_S,
            "max_outstanding_pings": _MAX_OUTSTANDING_PINGS,
            "pending_size": 0,
            "error_cb": self._on_error,
            "disconnected_cb": self._on_disconnected,
            "reconnected_cb": self._on_reconnected,
            "closed_cb": self._on_closed,
        }

    async def _on_error(self, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        if text != self._last_error:  # the same failure of every attempt is told once
            self._last_error = text
            log.warning("bus.error", connection=self.name, error=text)

    async def _on_disconnected(self) -> None:
        if self._connected.is_set():
            log.warning("bus.disconnected", connection=self.name)
        self._connected.clear()

    async def _on_reconnected(self) -> None:
        self._announce("reconnected")

    async def _on_closed(self) -> None:
        if self._closing or (self._revival is not None and not self._revival.done()):
            return
        log.error("bus.closed_by_server", connection=self.name, error=str(self.nc.last_error))
        self._connected.clear()
        self._revival = asyncio.create_task(self.open(), name=f"bus-revival-{self.name}")

    def _announce(self, change: str) -> None:
        self._last_error = ""
        self._connected.set()
        url = self.nc.connected_url
        log.info(f"bus.{change}", connection=self.name, server=url.netloc.rpartition("@")[2] if url else "")
        for listener in tuple(self._listeners):
            listener()


async def connect(
    url: str | list[str],
    *,
    cell: str,
    name: str,
    credentials: Path | None = None,
    inbox_prefix: str = "_INBOX",
    tls: ssl.SSLContext | None = None,
) -> Bus:
    """Connects to NATS, waiting for it as long as it takes; reconnects for ever; logs each change of state.

    `name` is shown in the server's monitoring. `inbox_prefix`: a host may read its private one alone.
    """
    servers = (url,) if isinstance(url, str) else tuple(url)
    bus = Bus(
        ConnectionOptions(
            servers=servers,
            cell=cell,
            name=name,
            credentials=credentials,
            inbox_prefix=inbox_prefix,
            tls=tls,
        )
    )
    await bus.open()
    return bus
