"""Group commit: appends that arrive while a batch is on its way share the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import structlog

from core.eventlog.batch import Batch, CheckedAppend, Outcome, check
from core.eventlog.connections import backoff, is_transient
from core.eventlog.errors import LogUnavailable
from core.eventlog.schema import quote_identifier
from core.eventlog.types import Append, Appended

LANES = 2
WORTH_A_LANE = 24
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
    def first_event_id(self) -> UUID:
        return self.checked.append.events[0].event_id

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class _Lane:
    """A connection that appends; it is made when it is needed."""

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]], schema: str) -> None:
        self._connect = connect
        self._call = f"CALL {quote_identifier(schema)}.append_batch($1, $2, $3, $4, $5, $6, $7, NULL, NULL, NULL)"
        self._connection: asyncpg.Connection | None = None
        self._statement: asyncpg.prepared_stmt.PreparedStatement | None = None

    async def send(self, batch: Batch) -> list[Outcome]:
        """What became of each append. After an error the batch may have been written nevertheless."""
        if self._statement is None:
            self._connection = await self._connect()
            self._statement = await self._connection.prepare(self._call)
        answer: Any = await self._statement.fetchrow(*batch.arguments())
        return batch.outcomes(answer)

    def drop(self) -> None:
        """Without goodbye: what the server is doing for us is found again by its event ids."""
        connection, self._connection, self._statement = self._connection, None, None
        if connection is not None:
            connection.terminate()


class Writer:
    """Carries all appends of this process, in batches.

    One batch is under way at a time, as they would only wait for one another in Postgres. With many appends there
    are two: while Postgres works on one, this process makes the other.

    A batch whose answer is lost is sent again with the same event ids, which Postgres then finds: it counts once.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[asyncpg.Connection]],
        schema: str,
        *,
        patience_s: float,
        appended: Callable[[int, bool], None],
    ) -> None:
        """`patience_s`: how long an append waits for Postgres. `appended` is told each new last position, and whether
        all that came with it is patient."""
        self._patience_s = patience_s
        self._appended = appended
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Waiting] = deque()
        self._idle = [_Lane(connect, schema) for _ in range(LANES)]
        self._under_way: set[asyncio.Task[None]] = set()
        self._closing = False

    async def append(self, append: Append) -> Appended:
        """Waits until the append is durable, or raises why it was refused. See `EventLog.append`."""
        checked = check(append)
        if self._closing:
            raise LogUnavailable("the event log is closed")
        future: asyncio.Future[Appended] = self._loop.create_future()
        self._queue.append(_Waiting(checked, future, self._loop.time() + self._patience_s))
        self._start_lane()
        return await future

    async def close(self) -> None:
        """Lets what is queued finish, for a bounded time; the rest gets LogUnavailable."""
        self._closing = True
        give_up_at = self._loop.time() + CLOSE_GRACE_S
        while self._under_way and self._loop.time() < give_up_at:
            await asyncio.wait(self._under_way, timeout=give_up_at - self._loop.time())
        while self._queue:
            self._queue.popleft().fail(LogUnavailable("the event log was closed"))
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        for lane in self._idle:
            lane.drop()

    def _start_lane(self) -> None:
        if self._idle and (not self._under_way or len(self._queue) >= WORTH_A_LANE):
            task = self._loop.create_task(self._run(self._idle.pop()), name="append")
            self._under_way.add(task)

    async def _run(self, lane: _Lane) -> None:
        """Batch after batch, as long as there is enough to do for this lane.

        A task starts, and goes on after `sleep`, when all that was ready has run: what it appends shares the batch.
        """
        batch: list[_Waiting] = []
        try:
            while batch := self._take():
                await self._commit(lane, batch)
                await asyncio.sleep(0)
        finally:
            for waiting in batch:
                waiting.fail(LogUnavailable("the event log was closed before the append was confirmed"))
            self._idle.append(lane)
            self._under_way.discard(asyncio.current_task())

    def _take(self) -> list[_Waiting]:
        """The next batch: all that is queued, or half if that is worth a lane; nothing if it is too little for two.

        An append that is queued twice goes into two batches, so that the second finds the first.
        """
        queued = len(self._queue)
        if len(self._under_way) > 1 and queued < WORTH_A_LANE:
            return []
        share = min(queued if queued < 2 * WORTH_A_LANE else queued - queued // 2, MAX_BATCH_APPENDS)
        batch: list[_Waiting] = []
        event_ids: set[UUID] = set()
        size_bytes = 0
        while self._queue and len(batch) < share:
            waiting = self._queue[0]
            size_bytes += waiting.checked.size_bytes
            if batch and (size_bytes > MAX_BATCH_BYTES or waiting.first_event_id in event_ids):
                break
            self._queue.popleft()
            if not waiting.future.done():  # its caller may have been cancelled
                event_ids.add(waiting.first_event_id)
                batch.append(waiting)
        return batch

    async def _commit(self, lane: _Lane, batch: Sequence[_Waiting]) -> None:
        """Sends the batch until Postgres answers or the patience of all its appends is at its end."""
        pauses = backoff()
        while batch:
            try:
                async with asyncio.timeout_at(min(batch[0].deadline, self._loop.time() + CALL_TIMEOUT_S)):
                    outcomes = await lane.send(Batch([waiting.checked for waiting in batch]))
            except Exception as error:
                lane.drop()
                if not is_transient(error):
                    await self._commit_singly(lane, batch, error)
                    return
                _log.warning("append not confirmed, trying on", appends=len(batch), error=repr(error))
                await asyncio.sleep(min(next(pauses), max(0.0, batch[0].deadline - self._loop.time())))
                self._give_up(batch, error)
                batch = [waiting for waiting in batch if not waiting.future.done()]
            else:
                self._deliver(batch, outcomes)
                return

    async def _commit_singly(self, lane: _Lane, batch: Sequence[_Waiting], error: Exception) -> None:
        """After an error that would come again: only the append that causes it shall get it."""
        if len(batch) == 1:
            batch[0].fail(error)
            return
        _log.error("a batch was refused as a whole, trying one append at a time", error=repr(error))
        for waiting in batch:
            await self._commit(lane, (waiting,))

    def _deliver(self, batch: Sequence[_Waiting], outcomes: Sequence[Outcome]) -> None:
        last_position, patient = 0, True
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if not isinstance(outcome, Appended):
                waiting.fail(outcome)
                continue
            last_position = max(last_position, outcome.last_position)
            patient = patient and waiting.checked.append.patient
            if not waiting.future.done():
                waiting.future.set_result(outcome)
        if last_position:
            self._appended(last_position, patient)

    def _give_up(self, batch: Sequence[_Waiting], error: Exception) -> None:
        """Ends the waiting of appends, of this batch and queued, whose patience is over."""
        for waiting in (*batch, *self._queue):
            if waiting.deadline <= self._loop.time():
                failure = LogUnavailable(f"Postgres did not confirm it within {self._patience_s:g} s: {error!r}")
                failure.__cause__ = error
                waiting.fail(failure)
