"""A connection to libvirtd that comes back by itself, and a bounded pool of threads for its blocking calls."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import libvirt
import structlog

from compute_agent.errors import hypervisor_unavailable

T = TypeVar("T")

# A libvirtd that hangs is given up after interval * (count + 1) seconds.
_KEEPALIVE_INTERVAL_S = 5
_KEEPALIVE_COUNT = 3
_RECONNECT_DELAYS_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Link:
    """One `virConnect` with its callbacks. `open` and `release` block."""

    connection: Any
    events: int

    @classmethod
    def open(cls, uri: str, on_change: Callable[[str], None], on_lost: Callable[[], None]) -> _Link:
        connection = libvirt.open(uri)
        connection.setKeepAlive(_KEEPALIVE_INTERVAL_S, _KEEPALIVE_COUNT)
        connection.registerCloseCallback(lambda _connection, _reason, _: on_lost(), None)
        events = connection.domainEventRegisterAny(
            None,
            libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
            lambda _connection, domain, _event, _detail, _: on_change(domain.UUIDString()),
            None,
        )
        return cls(connection, events)

    def release(self) -> None:
        # Callbacks hold the connection; on one that is lost they can't be taken back, and go with it.
        with contextlib.suppress(libvirt.libvirtError):
            self.connection.unregisterCloseCallback()
            self.connection.domainEventDeregisterAny(self.events)
        with contextlib.suppress(libvirt.libvirtError):
            self.connection.close()


class Connection:
    """libvirt's API, asynchronously.

    `patience_s` bounds how long `call` waits for a libvirtd that is away. `on_change(instance_uuid)` and
    `on_connect()` are called in the asyncio loop: after a lifecycle event of a domain, and after each new
    connection, before which events may have been lost.
    """

    def __init__(
        self,
        uri: str,
        *,
        on_change: Callable[[str], None],
        on_connect: Callable[[], None],
        patience_s: float,
        threads: int = 8,
    ) -> None:
        self._uri = uri
        self._on_change = on_change
        self._on_connect = on_connect
        self._patience_s = patience_s
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="libvirt")
        self._current: _Link | None = None
        self._connecting: asyncio.Task[_Link] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()

    async def open(self) -> None:
        """Begins to connect, and keeps connected until `close`. Does not wait for success."""
        _run_libvirt_events()
        self._keeper = asyncio.create_task(self._keep_connected(), name="libvirt connection")

    async def close(self) -> None:
        tasks = [task for task in (self._keeper, self._connecting) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._current is not None:
            await self._in_pool(self._current.release)
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def call(self, operation: Callable[[Any], T]) -> T:
        """Runs `operation(virConnect)` in the pool; again, from its beginning, when libvirtd goes away meanwhile.

        So it must be one that may be repeated. Raises what it raises, such as `libvirt.libvirtError`;
        `Unavailable` (HYPERVISOR_UNAVAILABLE) after `patience_s`.
        """
        deadline = time.monotonic() + self._patience_s
        attempt = 0
        while True:
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    link = await self._connected()
            except TimeoutError as error:
                raise hypervisor_unavailable(self._uri, "it does not answer") from error
            except libvirt.libvirtError as error:
                if time.monotonic() > deadline:
                    raise hypervisor_unavailable(self._uri, str(error)) from error
                await asyncio.sleep(_delay(attempt))
                attempt += 1
                continue
            try:
                return await self._in_pool(functools.partial(operation, link.connection))
            except libvirt.libvirtError as error:
                if link.connection.isAlive():
                    raise
                self._forget(link)
                log.warning("libvirtd went away during a call", error=str(error))

    async def _keep_connected(self) -> None:
        attempt = 0
        while True:
            try:
                await self._connected()
                attempt = 0
                await self._lost.wait()
            except libvirt.libvirtError as error:
                if attempt == 0:
                    log.warning("no connection to libvirtd", uri=self._uri, error=str(error))
                await asyncio.sleep(_delay(attempt))
                attempt += 1

    async def _connected(self) -> _Link:
        """The connection, or a new one: one attempt at a time, however many wait for it and give up waiting."""
        if self._current is not None and self._current.connection.isAlive():
            return self._current
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._connect(), name="connect to libvirtd")
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> _Link:
        self._lost.clear()
        loop = asyncio.get_running_loop()
        link = await self._in_pool(
            _Link.open,
            self._uri,
            lambda instance_uuid: _post(loop, self._on_change, instance_uuid),
            lambda: _post(loop, self._lost.set),
        )
        self._current = link
        log.info("connected to libvirtd", uri=self._uri)
        self._on_connect()
        return link

    def _forget(self, link: _Link) -> None:
        if self._current is link:
            self._current = None
            self._pool.submit(link.release)
        self._lost.set()

    async def _in_pool(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)


def _delay(attempt: int) -> float:
    return _RECONNECT_DELAYS_S[min(attempt, len(_RECONNECT_DELAYS_S) - 1)]


def _post(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: object) -> None:
    """From libvirt's thread into the loop, unless the agent is ending."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(function, *arguments)


@functools.cache
def _run_libvirt_events() -> None:
    """Starts the thread that carries keepalive and events; libvirt has one event loop a process, for ever."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    libvirt.virEventRegisterDefaultImpl()

    def run() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=run, name="libvirt events", daemon=True).start()
