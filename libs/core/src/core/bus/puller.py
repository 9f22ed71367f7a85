"""Pull requests to one consumer, owned by us: nats-py's own subscription may not resume after a server's restart
(https://github.com/nats-io/nats.py/issues/504).

The server forgets our outstanding requests whenever it, its consumer's leader or the connection goes away. So each
request asks for idle heartbeats; when they stop, or the bus has reconnected, the session is thrown away and a new
one is begun on a fresh inbox, where no answer to an old request can arrive.
The protocol: https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-37.md
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import Callable

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import Header

from core.bus.connection import Bus
from core.bus.errors import ConsumerMissing

log = structlog.get_logger(__name__)

_ACK_PREFIX = "$JS.ACK."
_PENDING_MESSAGES = "Nats-Pending-Messages"
_RETRY_S = 0.25


class Puller:
    """Messages of one consumer, in the order of their arrival, never more at a time than were asked for."""

    def __init__(
        self,
        bus: Bus,
        stream: str,
        consumer: str,
        *,
        expires_s: float = 30.0,
        heartbeat_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus = bus
        self._consumer = consumer
        self._next_subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._expires_s = expires_s
        self._heartbeat_s = heartbeat_s
        self._clock = clock
        self._buffer: deque[Msg] = deque()
        self._wake = asyncio.Event()
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._outstanding = 0
        self._heard_at = 0.0
        self._lost = True
        self._missing: str | None = None
        self._stop_listening = bus.on_connected(self._on_connected)

    async def fetch(self, wanted: int, *, timeout_s: float | None = None) -> list[Msg]:
        """What has arrived, at least one message, at most `wanted`; empty only after `timeout_s`.

        Waits while NATS is away. Raises ConsumerMissing when the server says that there is no such consumer.
        """
        deadline = None if timeout_s is None else self._clock() + timeout_s
        while not self._buffer:
            self._raise_if_missing()
            remaining = None if deadline is None else deadline - self._clock()
            if remaining is not None and remaining <= 0:
                return []
            await self._request(wanted, remaining)
            await self._wait_for_news(remaining)
        if len(self._buffer) < wanted and self._bus.connected:
            await self._request(wanted, timeout_s)
        return [self._buffer.popleft() for _ in range(min(wanted, len(self._buffer)))]

    async def close(self) -> list[Msg]:
        """Ends the session; the server drops the requests of an inbox that nobody reads.

        Returns what had arrived and was not fetched.
        """
        self._stop_listening()
        await self._end_session()
        left = list(self._buffer)
        self._buffer.clear()
        return left

    def _raise_if_missing(self) -> None:
        if self._missing is not None:
            reason, self._missing, self._lost = self._missing, None, True
            raise ConsumerMissing(f"consumer {self._consumer}: {reason}")

    async def _request(self, wanted: int, timeout_s: float | None) -> None:
        """Tops the outstanding requests up, when half of what is wanted is no longer on its way."""
        if not self._bus.connected:
            self._lost = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._bus.wait_connected()
            return
        if self._lost:
            await self._begin_session()
        deficit = wanted - self._outstanding - len(self._buffer)
        if deficit <= 0 or (self._outstanding > 0 and 2 * deficit < wanted):
            return
        if self._outstanding == 0:
            self._heard_at = self._clock()
        request = {
            "batch": deficit,
            "expires": int(self._expires_s * 1e9),
            "idle_heartbeat": int(self._heartbeat_s * 1e9),
        }
        try:
            await self._bus.nc.publish(self._next_subject, json.dumps(request).encode(), reply=self._inbox)
            self._outstanding += deficit
        except nats.errors.Error:
            self._lost = True

    async def _wait_for_news(self, remaining: float | None) -> None:
        silence_limit_s = 2 * self._heartbeat_s + 1.0
        patience = _RETRY_S if self._lost else max(0.0, self._heard_at + silence_limit_s - self._clock())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience if remaining is None else min(patience, remaining)):
                await self._wake.wait()
        self._wake.clear()
        if self._outstanding > 0 and self._clock() - self._heard_at >= silence_limit_s:
            log.warning("bus.pull_silent", consumer=self._consumer)
            self._lost = True

    async def _begin_session(self) -> None:
        await self._end_session()
        self._inbox = self._bus.nc.new_inbox()
        self._outstanding = 0
        self._lost = False
        self._heard_at = self._clock()
        inbox = self._inbox

        def receive(message: Msg) -> None:
            if inbox == self._inbox:
                self._on_message(message)

        try:
            self._subscription = await self._bus.nc.subscribe_directly(inbox, receive)
        except nats.errors.Error:
            self._lost = True

    async def _end_session(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()

    def _on_connected(self) -> None:
        self._lost = True
        self._wake.set()

    def _on_message(self, message: Msg) -> None:
        self._heard_at = self._clock()
        if message.reply.startswith(_ACK_PREFIX):
            self._outstanding = max(0, self._outstanding - 1)
            self._buffer.append(message)
            self._wake.set()
        else:
            self._on_status(message.headers or {})

    def _on_status(self, headers: dict[str, str]) -> None:
        status = headers.get(Header.STATUS.value, "")
        description = headers.get(Header.DESCRIPTION, "")
        if status == "100":  # idle heartbeat
            return
        if status in ("404", "408"):  # this request has ended; so many of its messages did not come
            undelivered = int(headers.get(_PENDING_MESSAGES, self._outstanding))
            self._outstanding = max(0, self._outstanding - undelivered)
        elif status == "503" or description.startswith("Consumer"):  # no responders; "Consumer Deleted"
            self._missing = description or "no such consumer, stream or JetStream"
        else:
            log.info("bus.pull_ended", consumer=self._consumer, status=status, description=description)
            self._lost = True
        self._wake.set()
