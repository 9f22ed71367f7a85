"""Waiting for the log to grow: NOTIFY as the hint, a poll behind it.

What this process appends it knows by itself, before NOTIFY tells: how far the log reaches, and whether anybody waits to
hear of it.
"""

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
        # Up to here somebody waits to hear of it, or may.
        self._urgent = 0
        # Postgres processes that append for this one.
        self._own: set[int] = set()
        self._changed = asyncio.Event()
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def position(self) -> int:
        return self._position

    def saw(self, position: int, patient: bool = False) -> None:
        """The log reaches at least this position. `patient`: nobody waits to hear of what has come."""
        if position > self._position:
            self._set(position, self._urgent if patient else position)
        elif not patient:
            self.hurry(position)

    def hurry(self, position: int) -> None:
        """Somebody waits to hear of what the log has up to there."""
        if position > self._urgent:
            self._set(self._position, position)

    def append_by(self, connection: asyncpg.Connection) -> None:
        """What this connection appends, until it ends, `saw` is told of."""
        pid = connection.get_server_pid()
        self._own.add(pid)
        connection.add_termination_listener(lambda _: self._own.discard(pid))

    async def wait_beyond(self, position: int, *, timeout: float, gather_s: float = 0.0) -> bool:  # noqa: ASYNC109
        """Whether the log got beyond `position` within `timeout` seconds. `gather_s`: how much longer it waits for more
        where nobody waits for what has come."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"listen {self._channel}")
        try:
            async with asyncio.timeout(timeout):
                while self._position <= position:
                    await self._changed.wait()
        except TimeoutError:
            return False
        if gather_s:
            with suppress(TimeoutError):
                async with asyncio.timeout(gather_s):
                    while self._urgent <= position:
                        await self._changed.wait()
        return True

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def _set(self, position: int, urgent: int) -> None:
        self._position, self._urgent = position, urgent
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
        await connection.add_listener(self._channel, self._on_notification)
        while not connection.is_closed():
            # The poll alone may lower the position: after a restore the log can be shorter than it was.
            position = await connection.fetchval(self._select, timeout=5.0)
            if position != self._position:
                self._set(position, position)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_interval_s):
                    await self._lost.wait()

    def _on_notification(self, connection: object, pid: int, channel: str, payload: object) -> None:
        if pid not in self._own:
            position, _, patient = str(payload).partition(" ")
            self.saw(int(position), patient == "patient")
