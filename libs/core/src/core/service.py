"""A process's life: logs, traces and metrics on, wire, be ready, wait for a signal or a failure, stop in order.

    def main() -> int:
        return run_service("conductor", ConductorSettings(), bootstrap)

`bootstrap(lifetime, settings)` wires the parts, starts them with `lifetime.start` and `lifetime.on_stop`, says
`lifetime.ready()` and returns. It may take its time: a signal during it stops the process as well.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import structlog

from core import logs, metrics, telemetry
from core.errors import CirraError
from core.settings import ServiceSettings

SettingsT = TypeVar("SettingsT", bound=ServiceSettings)
Bootstrap = Callable[["Lifetime", SettingsT], Awaitable[None]]

_CANCEL_AGAIN_S = 1.0
STOP_TIMEOUT_S = 15.0
EXIT_TIMEOUT_S = 3.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Ten times Python's: containers made since the last collection, and collections of each generation before the next.
_GARBAGE_THRESHOLDS = (7_000, 10, 10)
_log = structlog.get_logger(__name__)


class Lifetime:
    """What runs in this process, and how it ends.

    A background task that ends by itself takes the process down: a service that has lost a part of itself must not
    look healthy. What was started last is stopped first.
    """

    def __init__(self, ready_file: Path | None = None) -> None:
        self._ready_file = ready_file
        self._stopping = asyncio.Event()
        self._ready = asyncio.Event()
        self._stops: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        self._failed = False

    @property
    def failed(self) -> bool:
        """Whether a part has died."""
        return self._failed

    @property
    def is_ready(self) -> bool:
        return self._ready.is_set() and not self._stopping.is_set()

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def start(self, work: Coroutine[Any, Any, Any], name: str, *, finite: bool = False) -> asyncio.Task[Any]:
        """Run *work* in the background until the stop; *finite*: it may also come to its end."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(lambda done: self._on_done(done, finite))
        self._stops.append((name, lambda: _cancel(task)))
        return task

    def on_stop(self, callback: Callable[[], Awaitable[None]], name: str = "") -> None:
        """Call *callback* at the stop, after all that was started or registered later."""
        self._stops.append((name or getattr(callback, "__qualname__", repr(callback)), callback))

    def ready(self, **facts: str | int) -> None:
        """The process does its job now. *facts*, such as the address bound, go to the log and to the ready file."""
        self._ready.set()
        _log.info("ready", **facts)
        if self._ready_file is not None:
            _write_ready_file(self._ready_file, {"pid": os.getpid(), **facts})

    def stop(self) -> None:
        """Begin the stop, as a signal would."""
        self._stopping.set()

    async def wait_ready(self) -> None:
        await self._ready.wait()

    async def wait_stopping(self) -> None:
        await self._stopping.wait()

    async def close(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop everything, last first. What fails or hangs is logged and doesn't keep the rest from stopping."""
        self._stopping.set()
        if self._ready_file is not None:
            self._ready_file.unlink(missing_ok=True)
        deadline = time.monotonic() + timeout_s
        while self._stops:
            name, callback = self._stops.pop()
            try:
                # Each gets some time, however long the others took.
                async with asyncio.timeout(max(0.5, deadline - time.monotonic())):
                    await callback()
            except Exception:
                _log.exception("stopping failed", part=name)

    def _on_done(self, task: asyncio.Task[Any], finite: bool) -> None:
        if task.cancelled() or self._stopping.is_set():
            return
        error = task.exception()
        if error is None and finite:
            return
        self._failed = True
        self._stopping.set()
        if error is None:
            _log.critical("a part of the service ended; stopping", part=task.get_name())
        else:
            _log.critical("a part of the service died; stopping", part=task.get_name(), exc_info=error)


async def run(
    main: Callable[[Lifetime], Awaitable[None]],
    *,
    ready_file: Path | None = None,
    stop_timeout_s: float = STOP_TIMEOUT_S,
) -> int:
    """Run *main*, then wait for a signal or a failure, and stop. Returns the exit code: 0 after a signal, else 1."""
    lifetime = Lifetime(ready_file)
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, _on_signal, lifetime, number)
    try:
        await _bootstrap(main, lifetime)
        await lifetime.wait_stopping()
    finally:
        await lifetime.close(stop_timeout_s)
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
    return 1 if lifetime.failed else 0


def run_service(name: str, settings: SettingsT, bootstrap: Bootstrap[SettingsT]) -> int:
    """The whole life of a service's process, for its `main()`. Returns the exit code."""
    logs.configure(name, settings)
    traces = telemetry.configure(name, settings)

    async def main(lifetime: Lifetime) -> None:
        if settings.metrics_listen:
            endpoint = metrics.start_endpoint(settings.metrics_listen)
            lifetime.on_stop(endpoint.stop, "metrics")
            _log.info("metrics", address=endpoint.address)
        await bootstrap(lifetime, settings)
        _spare_garbage_collections()

    async def life() -> int:
        code = await run(main, ready_file=settings.ready_file)
        _exit_by_force_after(EXIT_TIMEOUT_S, code)
        return code

    _log.info("starting", cell=settings.cell, pid=os.getpid())
    try:
        code = asyncio.run(life())
    except Exception as error:
        _log.critical("could not start", exc_info=True, **_cause(error))
        code = 1
    finally:
        traces.shutdown()
    _log.info("stopped", exit_code=code)
    return code


async def _bootstrap(main: Callable[[Lifetime], Awaitable[None]], lifetime: Lifetime) -> None:
    """Run *main*, unless a signal or the death of a part comes first."""
    work = asyncio.ensure_future(main(lifetime))
    stopping = asyncio.ensure_future(lifetime.wait_stopping())
    try:
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
    finally:
        await _cancel(work)
        await _cancel(stopping)


def _cause(error: Exception) -> dict[str, str]:
    """For who reads the log: what went wrong, and what to do, apart from the traceback."""
    told = {"error": str(error) or type(error).__name__}
    if isinstance(error, CirraError):
        told |= {"reason": error.reason, "remedy": error.remedy}
    return told


def _spare_garbage_collections() -> None:
    """What has been made until now (modules, descriptors, caches) stays for the life of the process: it is not looked
    through again. And what is made while serving is nearly all freed by its counts: cycles are looked for seldom.
    https://docs.python.org/3.11/library/gc.html#gc.freeze
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GARBAGE_THRESHOLDS)


def _exit_by_force_after(seconds: float, code: int) -> None:
    """Python waits at its end for every thread of a pool, also for one that hangs in a call to a dead server."""

    def give_up() -> None:
        _log.warning("a thread does not end; exiting without it")
        os._exit(code)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()


def _on_signal(lifetime: Lifetime, number: signal.Signals) -> None:
    if lifetime.is_stopping:
        # Asked twice: whoever asks has lost patience with the orderly way.
        _log.warning("second signal; exiting at once", signal=number.name)
        os._exit(128 + number)
    _log.info("stopping", signal=number.name)
    lifetime.stop()


async def _cancel(task: asyncio.Future[Any]) -> None:
    """Cancel until it has ended; its own error was reported when it happened. Who is about to connect to a NATS that is
    not there may take no notice of the first time (nats-py catches it with the attempt's failure)."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_CANCEL_AGAIN_S)


def _write_ready_file(path: Path, facts: dict[str, str | int]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(facts) + "\n")
    temporary.replace(path)
