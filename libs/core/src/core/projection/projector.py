"""Runs one projection: one active replica, events in order, rows and checkpoint in one transaction."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from math import ceil

import asyncpg
import structlog

from core.bus.connection import Bus
from core.bus.metrics import PROJECTED, PROJECTION_HALTS
from core.eventlog.connections import backoff, is_transient
from core.eventlog.errors import LeaseLost
from core.eventlog.leases import Lease, Leases
from core.eventlog.log import EventLog
from core.eventlog.types import RecordedEvent
from core.projection.checkpoints import Checkpoints, ProjectionState, transaction
from core.projection.errors import ApplyFailed, CheckpointMoved, HistoryChanged
from core.projection.hurry import Hurry
from core.projection.projection import Projection
from core.projection.stream import EventStream
from core.projection.tail import BATCH, EventTail
from core.projection.watcher import CheckpointWatcher

_log = structlog.get_logger(__name__)

LEASE_TTL = timedelta(seconds=6)
_LOOK_AGAIN_S = 1.0
# How long the checkpoint stays before events of no concern: when nothing follows them, and at most.
_PASS_AFTER_S = 0.05
_PASS_LATEST_S = 0.25
# Of a full batch: how much more is tried after each that succeeded, once less had to be.
_REGAINED = 1 / 32


@dataclass(frozen=True, slots=True)
class Progress:
    """Of a rebuild: the checkpoint, the head that it makes for, and events per second so far."""

    position: int
    target: int
    events_per_s: float


class Projector:
    """`run` it on every replica of the service: one holds the lease and applies, all can wait for positions.

    The service's `schema` lies in the log's database: the fencing number of the lease is checked in each
    transaction, so a projector that was paused and replaced writes nothing any more.
    """

    def __init__(
        self,
        projection: Projection,
        *,
        log: EventLog,
        bus: Bus,
        leases: Leases,
        schema: str,
        holder: str,
        pool: asyncpg.Pool | None = None,
        lease_ttl: timedelta = LEASE_TTL,
        batch: int = BATCH,
        stall_s: float = 2.0,
        stream: EventStream | None = None,
    ) -> None:
        """`stream`: see `EventTail`."""
        self.projection = projection
        self._event_log = log
        self._bus = bus
        self._leases = leases
        self._pool = pool or log.pool
        self._holder = holder
        self._lease_name = f"projection:{schema}:{projection.name}"
        self._lease_ttl = lease_ttl
        self._batch = batch
        # How many events it tries now. What Postgres does not do in its time, it may do of less.
        self._at_once = batch
        self._stall_s = stall_s
        self._stream = stream or EventStream(bus)
        # Else the log must be looked at, to get to where somebody waits.
        self._is_told_all = self._stream.types is None
        self._checkpoints = Checkpoints(schema, projection.name)
        self._hurry = Hurry()
        self._watcher = CheckpointWatcher(self._pool, self._checkpoints, self._hurry)
        self._running = False
        self._tried_halt: tuple[int, int] | None = None
        # The rows were begun from nothing in this epoch, or one after it.
        self._begun_in = 0

    async def prepare(self) -> None:
        """Makes the schema, the checkpoint and, for a new projection, its tables. Safe on several replicas at once."""
        await self._checkpoints.prepare(self._pool)
        async with transaction(self._pool) as connection:
            if await self._checkpoints.add(connection, self.projection.version):
                await self._checkpoints.lock(connection)
                await self._make_tables(connection)

    async def run(self) -> None:
        """For ever. Postgres or NATS away: waits."""
        await self._patiently(self.prepare)
        self._running = True
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watcher.run(), name=f"watch {self._lease_name}")
                tasks.create_task(self._lead(), name=f"lead {self._lease_name}")
        finally:
            self._running = False

    def position(self) -> int:
        """The checkpoint as far as this replica knows; never ahead of the rows."""
        return self._watcher.position

    async def state(self) -> ProjectionState | None:
        """The checkpoint as it is in Postgres; None before `prepare`."""
        return await self._checkpoints.load(self._pool)

    async def wait_for(self, position: int, timeout: float, *, epoch: int = 0) -> bool:  # noqa: ASYNC109
        """True once the rows hold all events up to `position`; False when they don't after `timeout` seconds.

        `epoch`: the log's, for whom rows of a history that was lost won't do: they may hold as many events. Raises
        ProjectionHalted when the projection stands still before that.
        """
        return await self._watcher.wait_for(
            position, timeout, epoch=epoch, asks=self.projection.gather_s > 0 or not self._is_told_all
        )

    async def resume(self) -> None:
        """Takes a halt back: the active projector tries the event again."""
        async with transaction(self._pool) as connection:
            await self._checkpoints.lock(connection)
            await self._checkpoints.clear_halt(connection)

    async def rebuild(self, progress: Callable[[Progress], None] | None = None) -> Progress:
        """Drops the read model and waits until it is built again up to the head of now, or of a log restored meanwhile.

        Whichever replica is active does the work; this one when nobody else runs. ProjectionHalted on poison.
        """
        await self._patiently(self.prepare)
        target = (await self._event_log.head()).position
        await self._restart(None)
        helper = None if self._running else asyncio.create_task(self.run())
        try:
            return await self._watch_rebuild(target, progress)
        finally:
            if helper is not None:
                helper.cancel()
                await asyncio.gather(helper, return_exceptions=True)

    async def _watch_rebuild(self, target: int, progress: Callable[[Progress], None] | None) -> Progress:
        began = time.monotonic()
        while True:
            reached = await self._watcher.wait_for(target, _LOOK_AGAIN_S)
            state = await self.state()
            position = state.position if state else 0
            seconds = max(time.monotonic() - began, 1e-9)
            report = Progress(position, target, position / seconds)
            if progress is not None:
                progress(report)
            if reached and position >= target:
                return report
            target = min(target, (await self._event_log.head()).position)

    async def _lead(self) -> None:
        while True:
            try:
                async with self._leases.hold(self._lease_name, self._holder, self._lease_ttl) as held:
                    _log.info("projection.active", projection=self.projection.name, holder=self._holder)
                    self._tried_halt = None
                    self._watcher.leads = True
                    await held.run(self._project(held.lease))
            except LeaseLost as error:
                _log.warning("projection.lease_lost", projection=self.projection.name, error=str(error))
            finally:
                self._watcher.leads = False

    async def _project(self, lease: Lease) -> None:
        pauses = backoff()
        while True:
            try:
                self.projection.forget()
                state = await self._ready_state()
                if state is None:
                    await asyncio.sleep(_LOOK_AGAIN_S)
                    continue
                head = await self._event_log.head()
                self._require_whole(state, head.epoch)
                self.projection.begins(head.position)
                async with EventTail(
                    self._bus,
                    self._event_log,
                    after=state.position,
                    event_id=state.event_id,
                    epoch=state.epoch,
                    stall_s=self._stall_s,
                    stream=self._stream,
                ) as tail:
                    async for events in self._batches(tail):
                        if events:
                            self._require_whole(state, events[-1].epoch)
                        state = await self._advance(lease, state, events) if events else await self._same(state)
                        pauses = backoff()
                        self._at_once = min(self._batch, self._at_once + ceil(self._batch * _REGAINED))
            except CheckpointMoved as error:
                _log.info("projection.checkpoint_moved", projection=self.projection.name, reason=str(error))
            except HistoryChanged as error:
                _log.error("projection.history_changed", projection=self.projection.name, error=str(error))
                await self._patiently(lambda: self._restart(lease))
            except Exception as error:
                if not is_transient(error):
                    raise
                self._at_once = max(1, self._at_once // 2)
                _log.warning("projection.database_away", projection=self.projection.name, error=repr(error))
                await asyncio.sleep(next(pauses))

    async def _batches(self, tail: EventTail) -> AsyncIterator[Sequence[RecordedEvent]]:
        """What to apply next; nothing in quiet times. Events of no concern wait a moment for one that is, and those for
        more of them where the projection says so (`gather_s`), unless somebody waits for them."""
        clock = asyncio.get_running_loop().time
        gather_s = self.projection.gather_s
        after = tail.position
        gathered: list[RecordedEvent] = []
        due = latest = 0.0
        reading: asyncio.Task[list[RecordedEvent]] | None = None
        hurried: asyncio.Task[None] | None = None
        try:
            while True:
                reading = reading or asyncio.create_task(tail.next(self._at_once, patient=False), name="next events")
                hurried = hurried or asyncio.create_task(self._hurry.more(), name="hurry")
                await asyncio.wait(
                    (reading, hurried) if gathered or not self._is_told_all else (reading,),
                    timeout=due - clock() if gathered else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                is_quiet, now = False, clock()
                if hurried.done():
                    hurried = None
                    if not self._is_told_all and self._hurry.wanted > tail.position:
                        tail.look()
                if reading.done():
                    events, reading = reading.result(), None
                    if not gathered:
                        latest = now + max(_PASS_LATEST_S, gather_s)
                    if any(map(self.projection.concerns, events)):
                        latest = min(latest, now + gather_s)
                    gathered.extend(events)
                    due = min(latest, now + max(_PASS_AFTER_S, gather_s))
                    is_quiet = not events
                if not (gathered or is_quiet):
                    continue
                if is_quiet or due <= now or len(gathered) >= self._at_once or self._hurry.is_for(after, gathered):
                    batch, gathered = gathered, []
                    after = batch[-1].position if batch else after
                    yield batch
        finally:
            for task in filter(None, (reading, hurried)):
                task.cancel()
                await asyncio.wait((task,))

    def _require_whole(self, state: ProjectionState, epoch: int) -> None:
        """Raises HistoryChanged when the epoch was raised since the rows were begun: whatever the restore has made of
        them, they are made anew."""
        if state.position == 0:
            self._begun_in = max(self._begun_in, epoch)
        elif state.epoch < epoch and self._begun_in < epoch:
            raise HistoryChanged(state.position)

    async def _ready_state(self) -> ProjectionState | None:
        """Where to go on; None while there is nothing to do here: halted, or another version's read model.

        A halt is tried once by each holder of the lease: a restart with mended code goes on by itself.
        """
        state = await self.state()
        if state is None:
            await self.prepare()
            return None
        if state.version > self.projection.version:
            _log.error("projection.superseded", projection=state.name, version=state.version)
            return None
        if state.version < self.projection.version:
            _log.warning("projection.new_version", projection=state.name, version=self.projection.version)
            await self._restart(None)
            return await self.state()
        if state.halted_at is not None:
            attempt = (state.generation, state.halted_at)
            if self._tried_halt == attempt:
                return None
            self._tried_halt = attempt
        return state

    async def _same(self, expected: ProjectionState) -> ProjectionState:
        """In quiet times: CheckpointMoved when somebody asked for a rebuild."""
        if await self.state() != expected:
            raise CheckpointMoved("it was reset")
        return expected

    async def _advance(self, lease: Lease, state: ProjectionState, events: Sequence[RecordedEvent]) -> ProjectionState:
        """Applies the events; when that fails, each by itself, so that it halts before the one that can't be."""
        try:
            return await self._apply(lease, state, events)
        except ApplyFailed:
            self.projection.forget()
            for event in events:
                try:
                    state = await self._apply(lease, state, [event])
                except ApplyFailed as failure:
                    await self._halt(lease, state, failure)
                    raise CheckpointMoved(f"halted at {failure.position}") from failure
            return state

    async def _apply(self, lease: Lease, state: ProjectionState, events: Sequence[RecordedEvent]) -> ProjectionState:
        """All of the events, in one transaction with the checkpoint. ApplyFailed: none of them."""
        last = events[-1]
        concerned = [event for event in events if self.projection.concerns(event)]
        holding = self._leases.in_sql(lease)
        if concerned:
            async with self._checkpoints.batch(self._pool, state, holding, last) as connection:
                await self._apply_each(connection, concerned)
            self.projection.committed()
        else:
            await self._checkpoints.skip(self._pool, state, holding, last)
        PROJECTED.labels(self.projection.name).inc(len(events))
        self._watcher.reached(last.position, last.epoch)
        return replace(
            state, position=last.position, epoch=last.epoch, event_id=last.event_id, halted_at=None, error=""
        )

    async def _apply_each(self, connection: asyncpg.Connection, events: Sequence[RecordedEvent]) -> None:
        event = events[0]
        try:
            for event in events:
                await self.projection.apply(connection, event)
            await self.projection.flush(connection)
        except Exception as error:
            if _is_about_the_connection(error, connection):
                raise
            raise ApplyFailed(event.position, error) from error

    async def _halt(self, lease: Lease, state: ProjectionState, failure: ApplyFailed) -> None:
        _log.error(
            "projection.halted",
            projection=state.name,
            position=failure.position,
            error=str(failure),
            traceback="".join(traceback.format_exception(failure)),  # without local variables: they hold the data
        )
        PROJECTION_HALTS.labels(self.projection.name).inc()
        self._tried_halt = (state.generation, failure.position)
        async with transaction(self._pool) as connection:
            await self._checkpoints.lock_as(connection, state)
            await self._leases.check(connection, lease)
            await self._checkpoints.halt(connection, failure.position, str(failure))

    async def _restart(self, lease: Lease | None) -> None:
        """Empty tables and checkpoint 0, in one transaction; the active projector notices at its next one."""
        async with transaction(self._pool) as connection:
            await self._checkpoints.lock(connection)
            if lease is not None:
                await self._leases.check(connection, lease)
            await self._make_tables(connection)
            await self._checkpoints.restart(connection, self.projection.version)

    async def _make_tables(self, connection: asyncpg.Connection) -> None:
        await self.projection.reset(connection)
        await connection.execute(self.projection.ddl)

    async def _patiently(self, action: Callable[[], Awaitable[None]]) -> None:
        """Tries until Postgres is there."""
        for pause in backoff():
            try:
                return await action()
            except Exception as error:
                if not is_transient(error):
                    raise
                _log.warning("projection.database_away", projection=self.projection.name, error=repr(error))
                await asyncio.sleep(pause)


def _is_about_the_connection(error: Exception, connection: asyncpg.Connection) -> bool:
    """Postgres away, not the event's fault. asyncpg's InterfaceError is also a wrong number of arguments."""
    if isinstance(error, asyncpg.InterfaceError):
        return bool(connection.is_closed())
    return is_transient(error)
