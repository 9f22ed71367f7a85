"""Appends per second: the event log against the recorder of the `eventsourcing` library, on one durable Postgres.

Each append of the log has its events, claims a unique key and counts against a quota; the library's recorder inserts
the same events and has no such rows. Both are asked by the same number of writers, in short turns, so that a busy
machine slows both; what is appended in a turn is made before it. A refused append counts as answered on both sides.
The last line is JSON: rates are medians over the rounds, ratios are medians of the rounds' ratios;
`ratio.writers_N` is the lower of the two without conflicts and with 20 % of them.

    python bench/eventlog.py [--rounds 9] [--events 1]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice
from pathlib import Path
from statistics import median
from urllib.parse import unquote, urlsplit
from uuid import UUID

from eventsourcing.persistence import IntegrityError, StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore

from core.embedded.postgres import EmbeddedPostgres
from core.eventlog import (
    Append,
    Constraint,
    Context,
    CounterAdd,
    CounterLimit,
    EventLog,
    LimitExceeded,
    NewEvent,
    UniqueClaim,
    UniqueViolation,
    VersionConflict,
)
from core.ids import uuid7

WRITERS = (1, 8, 64)
CONFLICT_RATES = (0.0, 0.2)
TURN = {1: 400, 8: 3200, 64: 9600}
"""Appends of the log in one turn, by the number of writers: about half a second."""
LIBRARY_TURN = {1: 320, 8: 400, 64: 448}
"""Saves of the library in one turn, likewise."""
PROJECTS = 16
PAYLOAD = bytes(range(200))
EVENT_TYPE = "cirra.compute.v1.InstanceCreated"


def conflicts(rate: float) -> Iterator[bool]:
    """Whether the next append conflicts: evenly spread, the same for both sides."""
    due = 0.0
    while True:
        due += rate
        yield due >= 1.0
        due -= due >= 1.0


class CirraLog:
    """Writers are tasks of one process, as in a service."""

    def __init__(self, log: EventLog, events: int) -> None:
        self._log = log
        self._events = events
        self._number = count()
        self._taken = uuid7()

    async def prepare(self) -> None:
        """One aggregate, one key and one full quota to run into, and a wide quota for each project."""
        limits = [CounterLimit("instances", f"project-{n}", 10**9) for n in range(PROJECTS)]
        taken = UniqueClaim("address", "taken", "somebody")
        constraints: tuple[Constraint, ...] = (taken, CounterLimit("instances", "full", 0), *limits)
        await self._log.append(Append(self._new_events(self._taken), constraints))

    async def measure(self, writers: int, rate: float) -> float:
        """Answered appends per second."""
        shares = [self._share(rate, TURN[writers] // writers) for _ in range(writers)]
        started = time.perf_counter()
        await asyncio.gather(*(self._write(share) for share in shares))
        return TURN[writers] / (time.perf_counter() - started)

    def _share(self, rate: float, length: int) -> list[tuple[Append, bool]]:
        """What one writer appends in a turn, and whether it conflicts."""
        planned = enumerate(islice(conflicts(rate), length))
        return [(self._conflicting(turn) if conflict else self._fitting(), conflict) for turn, conflict in planned]

    async def _write(self, share: list[tuple[Append, bool]]) -> None:
        for append, conflict in share:
            try:
                await self._log.append(append)
            except (VersionConflict, UniqueViolation, LimitExceeded):
                assert conflict
            else:
                assert not conflict

    def _fitting(self) -> Append:
        return self._append(uuid7(), f"key-{next(self._number)}", f"project-{next(self._number) % PROJECTS}")

    def _conflicting(self, turn: int) -> Append:
        """In turns: a version that exists, a key that is taken, a quota that is full."""
        number = next(self._number)
        if turn % 3 == 0:
            return self._append(self._taken, f"key-{number}", "project-0")
        if turn % 3 == 1:
            return self._append(uuid7(), "taken", "project-0")
        return self._append(uuid7(), f"key-{number}", "full")

    def _append(self, aggregate_id: UUID, key: str, project: str) -> Append:
        return Append(
            self._new_events(aggregate_id),
            (UniqueClaim("address", key, str(aggregate_id)), CounterAdd("instances", project, 1)),
            Context(actor="users/alice", request_id=str(aggregate_id), correlation_id=str(aggregate_id)),
        )

    def _new_events(self, aggregate_id: UUID) -> tuple[NewEvent, ...]:
        return tuple(
            NewEvent(
                aggregate_type="instance",
                aggregate_id=aggregate_id,
                version=version,
                type=EVENT_TYPE,
                data=PAYLOAD,
                event_id=uuid7(),
            )
            for version in range(1, self._events + 1)
        )


class LibraryRecorder:
    """Writers are threads, as the library is synchronous."""

    def __init__(self, dsn: str, events: int) -> None:
        parts = urlsplit(dsn)
        self._datastore = PostgresDatastore(
            dbname=parts.path.lstrip("/"),
            host=parts.hostname or "",
            port=str(parts.port),
            user=parts.username or "",
            password=unquote(parts.password or ""),
            pool_size=max(WRITERS),
            max_overflow=0,
            lock_timeout=0,
        )
        self._recorder = PostgresApplicationRecorder(self._datastore, events_table_name="baseline_events")
        self._events = events
        self._taken = uuid7()

    def prepare(self) -> None:
        self._recorder.create_table()
        self._recorder.insert_events(self._stored_events(self._taken))

    def measure(self, writers: int, rate: float) -> float:
        """Answered saves per second."""
        shares = [self._share(rate, LIBRARY_TURN[writers] // writers) for _ in range(writers)]
        barrier = threading.Barrier(writers + 1)
        with ThreadPoolExecutor(writers) as executor:
            saves = [executor.submit(self._write, share, barrier.wait) for share in shares]
            barrier.wait()
            started = time.perf_counter()
            for save in saves:
                save.result()
            return LIBRARY_TURN[writers] / (time.perf_counter() - started)

    def close(self) -> None:
        self._datastore.close()

    def _share(self, rate: float, length: int) -> list[tuple[list[StoredEvent], bool]]:
        planned = islice(conflicts(rate), length)
        return [(self._stored_events(self._taken if conflict else uuid7()), conflict) for conflict in planned]

    def _write(self, share: list[tuple[list[StoredEvent], bool]], ready: Callable[[], object]) -> None:
        ready()
        for events, conflict in share:
            try:
                self._recorder.insert_events(events)
            except IntegrityError:
                assert conflict
            else:
                assert not conflict

    def _stored_events(self, aggregate_id: UUID) -> list[StoredEvent]:
        versions = range(1, self._events + 1)
        return [StoredEvent(aggregate_id, version, EVENT_TYPE, PAYLOAD) for version in versions]


async def run(rounds: int, events: int) -> dict[str, object]:
    """Starts Postgres with fsync, measures both sides in turns, and returns the result."""
    ours: dict[tuple[int, float], list[float]] = {}
    theirs: dict[tuple[int, float], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="cirra-bench-") as folder:
        async with EmbeddedPostgres(Path(folder), durable=True) as server:
            log = await EventLog.open(server.dsn, schema="bench_log")
            cirra, library = CirraLog(log, events), LibraryRecorder(server.dsn, events)
            await cirra.prepare()
            await asyncio.to_thread(library.prepare)
            for number in range(rounds):
                for case in [(writers, rate) for writers in WRITERS for rate in CONFLICT_RATES]:
                    saves = await asyncio.to_thread(library.measure, *case)
                    appends = await cirra.measure(*case)
                    theirs.setdefault(case, []).append(saves)
                    ours.setdefault(case, []).append(appends)
                    print(
                        f"round {number + 1}: {case[0]:3} writers, {case[1]:4.0%} conflicts:"
                        f" log {appends:8.0f}/s, library {saves:8.0f}/s, ratio {appends / saves:.1f}",
                        flush=True,
                    )
            await asyncio.to_thread(library.close)
            await log.close()
    return result(ours, theirs)


def result(
    ours: dict[tuple[int, float], list[float]], theirs: dict[tuple[int, float], list[float]]
) -> dict[str, object]:
    """The JSON line, from the rates of each case in each round."""
    names = {case: f"writers_{case[0]}_conflicts_{case[1] * 100:.0f}_per_s" for case in ours}
    ratios = {case: median(our / their for our, their in zip(ours[case], theirs[case], strict=True)) for case in ours}
    return {
        "bench": "eventlog",
        "baseline": {name: round(median(theirs[case])) for case, name in names.items()},
        "figures": {name: round(median(ours[case])) for case, name in names.items()},
        "ratio": {
            f"writers_{writers}": round(min(ratios[writers, rate] for rate in CONFLICT_RATES), 1) for writers in WRITERS
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--events", type=int, default=1, help="events per append")
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(run(arguments.rounds, arguments.events))))


if __name__ == "__main__":
    main()
