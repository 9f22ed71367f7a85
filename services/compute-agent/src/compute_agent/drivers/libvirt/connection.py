"""A connection to libvirtd that comes back by itself, and a bounded pool of threads for its blocking calls."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
        self._opening = asyncio.Lock()
        self._connection: Any = None
        self._keeper: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()

    async def open(self) -> None:
        """Begins to connect, and keeps connected until `close`. Does not wait for success."""
        _run_libvirt_events()
        self._keeper = asyncio.create_task(self._keep_connected(), name="libvirt connection")

    async def close(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        connection, self._connection = self._connection, None
        if connection is not None and connection.isAlive():
            await self._in_pool(connection.close)
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
                connection = await self._connected()
            except libvirt.libvirtError as error:
                if time.monotonic() > deadline:
                    raise hypervisor_unavailable(self._uri, str(error)) from error
                await asyncio.sleep(_delay(attempt))
                attempt += 1
                continue
            try:
                return await self._in_pool(functools.partial(operation, connection))
            except libvirt.libvirtError as error:
                if connection.isAlive():
                    raise
                self._forget(connection)
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

    async def _connected(self) -> Any:
        async with self._opening:
            if self._connection is not None and self._connection.isAlive():
                return self._connection
            self._lost.clear()
            self._connection = await self._in_pool(self._connect, asyncio.get_running_loop())
            log.info("connected to libvirtd", uri=self._uri)
            self._on_connect()
            return self._connection

    def _connect(self, loop: asyncio.AbstractEventLoop) -> Any:
        connection = libvirt.open(self._uri)
        connection.setKeepAlive(_KEEPALIVE_INTERVAL_S, _KEEPALIVE_COUNT)
        connection.registerCloseCallback(lambda closed, reason, _: _post(loop, self._closed, closed, reason), None)
        connection.domainEventRegisterAny(
            None,
            libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
            lambda _connection, domain, event, detail, _: _post(loop, self._on_change, domain.UUIDString()),
            None,
        )
        return connection

    def _closed(self, connection: Any, reason: int) -> None:
        log.warning("connection to libvirtd closed", uri=self._uri, reason=reason)
        self._forget(connection)

    def _forget(self, connection: Any) -> None:
        if self._connection is connection:
            self._connection = None
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
