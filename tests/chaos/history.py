"""The event log as a test sees it: moments to strike at, and what became of the sagas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from uuid import UUID

from cirra.operations.v1 import events_pb2 as pb
from core.eventlog.connections import is_transient
from core.eventlog.log import EventLog
from core.eventlog.types import RecordedEvent

_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Moment:
    """When the *number*-th event of a type is in the log: "10th StepStarted"."""

    event: str
    number: int

    def __str__(self) -> str:
        return f"{self.event} {self.number}"


class End(Enum):
    COMPLETED = "SagaCompleted"
    UNWOUND = "SagaUnwound"
    STUCK = "SagaStuck"


_ENDS = frozenset(end.value for end in End)


@dataclass(slots=True)
class Run:
    """One saga. `attempt`: the number of hosts it was tried on; `adoptions`: of other replicas than its first."""

    saga: str
    target: str
    runner: str
    attempt: int = 1
    adoptions: int = 0
    end: End | None = None
    reason: str = ""


@dataclass(slots=True)
class Runs:
    """The sagas of some stretch of the log, by id."""

    found: dict[UUID, Run] = field(default_factory=dict)

    def saw(self, event: RecordedEvent) -> None:
        if event.aggregate_type != "saga":
            return
        kind = kind_of(event)
        if kind == "SagaStarted":
            started = pb.SagaStarted.FromString(event.data)
            self.found[event.aggregate_id] = Run(started.saga, started.target, started.runner)
            return
        run = self.found.get(event.aggregate_id)
        if run is None:
            return
        if kind == "SagaAdopted":
            run.runner, run.adoptions = pb.SagaAdopted.FromString(event.data).runner, run.adoptions + 1
        elif kind == "StepStarted":
            run.attempt = max(run.attempt, pb.StepStarted.FromString(event.data).attempt)
        elif kind in _ENDS:
            run.end = End(kind)
            if kind != "SagaCompleted":
                run.reason = getattr(pb, kind).FromString(event.data).error.reason

    def of(self, saga: str) -> list[Run]:
        return [run for run in self.found.values() if run.saga == saga]


class History:
    """Follows the log from where it stands at the making; never loses its place, whoever is away."""

    def __init__(self, log: EventLog, after: int) -> None:
        self._log = log
        self._after = after

    @classmethod
    async def from_now(cls, log: EventLog) -> History:
        return cls(log, (await log.head()).position)

    async def until(self, moment: Moment) -> RecordedEvent:
        """Returns with the event, within milliseconds of its coming; starts anew at each call."""
        left = moment.number
        async for event in self._events():
            left -= kind_of(event) == moment.event
            if not left:
                return event
        raise AssertionError("a log has no end")

    async def until_ended(self, saga: str, count: int, timeout_s: float) -> list[Run]:
        """The runs of that saga, *count* of them, once all have ended. Raises TimeoutError, saying how they stand."""
        runs = Runs()
        try:
            async with asyncio.timeout(timeout_s):
                async for event in self._events():
                    runs.saw(event)
                    ended = [run for run in runs.of(saga) if run.end is not None]
                    if len(ended) == count == len(runs.of(saga)):
                        return ended
        except TimeoutError as error:
            raise TimeoutError(f"after {timeout_s:g} s: {runs.of(saga)}") from error
        raise AssertionError("a log has no end")

    async def counted(self) -> Mapping[str, int]:
        """How many events of each type there are until now."""
        counts: dict[str, int] = {}
        for event in await self._log.read(after=self._after, limit=100_000):
            counts[kind_of(event)] = counts.get(kind_of(event), 0) + 1
        return counts

    async def _events(self) -> AsyncIterator[RecordedEvent]:
        after = self._after
        while True:
            page = await self._page(after)
            for event in page:
                yield event
                after = event.position
            if not page:
                await self._log.wait_beyond(after, timeout=_POLL_S)

    async def _page(self, after: int) -> list[RecordedEvent]:
        """Waits for a Postgres that is away."""
        while True:
            try:
                return await self._log.read(after=after)
            except Exception as error:
                if not is_transient(error):
                    raise
            await asyncio.sleep(_POLL_S)


def kind_of(event: RecordedEvent) -> str:
    """`cirra.operations.v1.StepStarted` → `StepStarted`."""
    return event.type.rpartition(".")[2]
