"""`Client`: the async client for programs without an event loop. Made from it, method by method, while it runs."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any

from cirra_sdk.client import AsyncClient


class EventLoopThread:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cirra-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """The result of *work*, which is cancelled when the waiting thread is interrupted."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """What iterates still is ended; then the thread."""
        self.run(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class SyncFacade:
    """An object of the SDK whose coroutines block and whose asynchronous iterators are plain ones.

    Callbacks (`on_change`, `progress`) are called in the loop's thread.
    """

    def __init__(self, target: Any, thread: EventLoopThread) -> None:
        self._target = target
        self._thread = thread

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        return self._blocking(value) if callable(value) else self._facade(value)

    def _blocking(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            # The call itself also belongs into the loop: what it makes may need one that runs.
            result = self._thread.run(_called(method, args, kwargs))
            return self._iterated(result) if isinstance(result, AsyncIterator) else self._facade(result)

        return call

    def _facade(self, value: Any) -> Any:
        return SyncFacade(value, self._thread) if type(value).__module__.startswith("cirra_sdk.") else value

    def _iterated(self, source: AsyncIterator[Any]) -> Generator[Any]:
        """Ends *source* also when the reader stops in the middle."""
        try:
            while (item := self._thread.run(_next(source))) is not _END:
                yield item
        finally:
            self._thread.run(_close(source))


class Client(SyncFacade):
    """What `AsyncClient` does, in plain calls: `client.instances.create(…)`, `for image in client.images.list(): …`.

    May be used by several threads. Close it, or use `with`.
    """

    @classmethod
    def connect(cls, *args: Any, **kwargs: Any) -> Client:
        """As `AsyncClient.connect`. Raises ConfigurationError."""
        thread = EventLoopThread()
        try:
            return cls(thread.run(_called(AsyncClient.connect, args, kwargs)), thread)
        except BaseException:
            thread.close()
            raise

    def close(self) -> None:
        """Ends the connection and the thread."""
        try:
            self._thread.run(self._target.close())
        finally:
            self._thread.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


_END = object()


async def _called(method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    result = method(*args, **kwargs)
    return await result if inspect.isawaitable(result) else result


async def _next(source: AsyncIterator[Any]) -> Any:
    return await anext(source, _END)


async def _close(source: AsyncIterator[Any]) -> None:
    if inspect.isasyncgen(source):
        await source.aclose()
