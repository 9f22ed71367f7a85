"""Group commit: appends that arrive while a batch is on its way share the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import asyncpg
import structlog

from core.eventlog.batch import PARAMETERS, RESULTS, Batch, CheckedAppend, check
from core.eventlog.connections import backoff, is_transient
from core.eventlog.errors import LogUnavailable
from core.eventlog.schema import quote_identifier
from core.eventlog.types import Append, Appended

MAX_BATCH_APPENDS = 512
MAX_BATCH_BYTES = 4 * 1024 * 1024
CALL_TIMEOUT_S = 8.0  # longer than lock_timeout: a locked head is the server's to report
CLOSE_GRACE_S = 5.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Waiting:
    checked: CheckedAppend
    future: asyncio.Future[Appended]
    deadline: float  # of the event loop's clock

    @property
    def first_event_id(self) -> object:
        return self.checked.append.events[0].event_id


class Writer:
    """One task and one connection that carry all appends of this process, one batch at a time, in their order.

    A batch whose answer is lost is sent again with the same event ids, which Postgres then finds: it counts once.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[asyncpg.Connection]],
        schema: str,
        *,
        patience_s: float,
        appended: Callable[[int], None],
    ) -> None:
        """`patience_s`: how long an append waits for Postgres. `appended` is told each new last position."""
        self._connect = connect
        arguments = [f"${number}" for number in range(1, PARAMETERS + 1)] + ["NULL"] * RESULTS
        self._call = f"CALL {quote_identifier(schema)}.append_batch({', '.join(arguments)})"
        self._patience_s = patience_s
        self._appended = appended
        self._loop = asyncio.get_running_loop()
        self._connection: asyncpg.Connection | None = None
        self._statement: asyncpg.prepared_stmt.PreparedStatement | None = None
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._closing = False
        self._task = asyncio.create_task(self._run(), name="event log writer")

    async def append(self, append: Append) -> Appended:
        """Waits until the append is durable, or raises why it was refused. See `EventLog.append`."""
        checked = check(append)
        if self._closing:
            raise LogUnavailable("the event log is closed")
        future: asyncio.Future[Appended] = self._loop.create_future()
        self._queue.append(_Waiting(checked, future, self._loop.time() + self._patience_s))
        self._arrived.set()
        return await future

    async def close(self) -> None:
        """Lets what is queued finish, for a bounded time; the rest gets LogUnavailable."""
        self._closing = True
        self._arrived.set()
        await asyncio.wait((self._task,), timeout=CLOSE_GRACE_S)
        if not self._task.done():
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._drop_connection()

    async def _run(self) -> None:
        batch: list[_Waiting] = []
        try:
            while self._queue or not self._closing:
                await self._arrived.wait()
                batch = self._take()
                if batch:
                    await self._commit(batch)
                    # The appends that this batch's writers make next shall share one batch, not be split by
                    # what was queued before: let them arrive.
                    await asyncio.sleep(0)
                elif not self._closing:
                    self._arrived.clear()
        finally:
            for waiting in (*batch, *self._queue):
                _fail(waiting, LogUnavailable("the event log was closed before the append was confirmed"))

    def _take(self) -> list[_Waiting]:
        """The next batch. An append that is queued twice goes into two, so that the second finds the first."""
        batch: list[_Waiting] = []
        event_ids: set[object] = set()
        size_bytes = 0
        while self._queue and len(batch) < MAX_BATCH_APPENDS:
            waiting = self._queue[0]
            size_bytes += waiting.checked.size_bytes
            if batch and (size_bytes > MAX_BATCH_BYTES or waiting.first_event_id in event_ids):
                break
            self._queue.popleft()
            if not waiting.future.done():  # its caller may have been cancelled
                event_ids.add(waiting.first_event_id)
                batch.append(waiting)
        return batch

    async def _commit(self, batch: Sequence[_Waiting]) -> None:
        """Sends the batch until Postgres answers or the patience of all its appends is at its end."""
        pauses = backoff()
        while batch:
            try:
                async with asyncio.timeout_at(min(batch[0].deadline, self._loop.time() + CALL_TIMEOUT_S)):
                    await self._send(batch)
                return
            except Exception as error:
                self._drop_connection()
                if not is_transient(error):
                    await self._commit_singly(batch, error)
                    return
                _log.warning("append not confirmed, trying on", appends=len(batch), error=repr(error))
                await asyncio.sleep(min(next(pauses), max(0.0, batch[0].deadline - self._loop.time())))
                self._give_up(error)
                batch = self._patient(batch, error)

    async def _commit_singly(self, batch: Sequence[_Waiting], error: Exception) -> None:
        """After an error that will come again: only the append that causes it shall get it."""
        if len(batch) == 1:
            _fail(batch[0], error)
            return
        _log.error("a batch was refused as a whole, trying one append at a time", error=repr(error))
        for waiting in batch:
            await self._commit((waiting,))

    async def _send(self, batch: Sequence[_Waiting]) -> None:
        arrays = Batch([waiting.checked for waiting in batch])
        statement = self._statement or await self._prepare()
        answer: Any = await statement.fetchrow(*arrays.arguments())
        last_position = 0
        for waiting, outcome in zip(batch, arrays.outcomes(answer), strict=True):
            if not isinstance(outcome, Appended):
                _fail(waiting, outcome)
                continue
            last_position = max(last_position, outcome.last_position)
            if not waiting.future.done():
                waiting.future.set_result(outcome)
        if last_position:
            self._appended(last_position)

    async def _prepare(self) -> asyncpg.prepared_stmt.PreparedStatement:
        self._connection = await self._connect()
        self._statement = await self._connection.prepare(self._call)
        return self._statement

    def _drop_connection(self) -> None:
        """Without goodbye: what the server is doing for us is found again by its event ids."""
        connection, self._connection, self._statement = self._connection, None, None
        if connection is not None:
            connection.terminate()

    def _give_up(self, error: Exception) -> None:
        """Ends the waiting of queued appends whose patience is over."""
        while self._queue and self._queue[0].deadline <= self._loop.time():
            _fail(self._queue.popleft(), self._unavailable(error))

    def _patient(self, batch: Sequence[_Waiting], error: Exception) -> list[_Waiting]:
        """The appends that are still waited for; the others get LogUnavailable."""
        now = self._loop.time()
        for waiting in batch:
            if waiting.deadline <= now:
                _fail(waiting, self._unavailable(error))
        return [waiting for waiting in batch if not waiting.future.done()]

    def _unavailable(self, error: Exception) -> LogUnavailable:
        failure = LogUnavailable(f"Postgres did not confirm the append within {self._patience_s:g} s: {error!r}")
        failure.__cause__ = error
        return failure


def _fail(waiting: _Waiting, error: BaseException) -> None:
    if not waiting.future.done():
        waiting.future.set_exception(error)
