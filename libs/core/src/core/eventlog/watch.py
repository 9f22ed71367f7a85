"""Waiting for the log to grow: NOTIFY as the hint, a poll behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import asyncpg
import structlog

from core.eventlog.connections import backoff, is_transient
from core.eventlog.schema import quote_identifier

_log = structlog.get_logger(__name__)


class HeadWatch:
    """What this process knows of the head's position. Listens on a connection of its own once somebody waits."""

    def __init__(
        self, connect: Callable[[], Awaitable[asyncpg.Connection]], schema: str, *, poll_interval_s: float = 1.0
    ) -> None:
        self._connect = connect
        self._channel = f"{schema}.events"
        self._select = f"SELECT position FROM {quote_identifier(schema)}.head"
        self._poll_interval_s = poll_interval_s
        self._position = 0
        self._changed = asyncio.Event()
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def position(self) -> int:
        return self._position

    def saw(self, position: int) -> None:
        """The log reaches at least this position."""
        if position > self._position:
            self._set(position)

    async def wait_beyond(self, position: int, *, timeout: float) -> bool:  # noqa: ASYNC109
        """Whether the log got beyond `position` within `timeout` seconds."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"listen {self._channel}")
        try:
            async with asyncio.timeout(timeout):
                while self._position <= position:
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def _set(self, position: int) -> None:
        self._position = position
        self._changed.set()
        self._changed = asyncio.Event()

    async def _run(self) -> None:
        pauses = backoff()
        while True:
            try:
                connection = await self._connect()
                try:
                    pauses = backoff()
                    await self._follow(connection)
                finally:
                    connection.terminate()
            except Exception as error:  # whatever it is: who waits must not be left alone
                log = _log.warning if is_transient(error) else _log.error
                log("not listening to the log, trying on", error=repr(error))
            await asyncio.sleep(next(pauses))

    async def _follow(self, connection: asyncpg.Connection) -> None:
        """Until the connection is lost. The poll comes after LISTEN: what was appended before that is not notified."""
        self._lost.clear()
        connection.add_termination_listener(lambda _: self._lost.set())
        await connection.add_listener(self._channel, lambda *arguments: self.saw(int(arguments[-1])))
        while not connection.is_closed():
            # The poll alone may lower the position: after a restore the log can be shorter than it was.
            position = await connection.fetchval(self._select, timeout=5.0)
            if position != self._position:
                self._set(position)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_interval_s):
                    await self._lost.wait()
