"""Appending, one case at a time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from core.eventlog import (
    Append,
    Appended,
    Context,
    Counter,
    CounterAdd,
    CounterLimit,
    CounterUnderflow,
    EventLog,
    InvalidAppend,
    LimitExceeded,
    UniqueClaim,
    UniqueRelease,
    UniqueViolation,
    VersionConflict,
)
from core.eventlog.types import MAX_EVENT_BYTES
from core.ids import uuid7
from tests.integration.eventlog.conftest import OpenLog
from tests.integration.eventlog.events import append_together, new_append, new_event, read_all


async def test_an_event_comes_back_as_it_was_written(log: EventLog) -> None:
    context = Context(
        actor="users/ann",
        request_id="request",
        causation_id="cause",
        correlation_id="correlation",
        traceparent="00-trace",
    )
    event = new_event(uuid7(), 1, data=bytes(range(256)))
    before = datetime.now(UTC)
    appended = await log.append(Append((event,), context=context))
    [recorded] = await log.read(after=0)
    assert appended == Appended(1, 1, recorded.recorded_at)
    assert abs((recorded.recorded_at - before).total_seconds()) < 60
    assert (recorded.position, recorded.epoch, recorded.version, recorded.schema_version) == (1, 1, 1, 1)
    assert (recorded.event_id, recorded.aggregate_id) == (event.event_id, event.aggregate_id)
    assert (recorded.aggregate_type, recorded.type, recorded.data) == ("thing", event.type, event.data)
    assert context == Context(
        actor=recorded.actor,
        request_id=recorded.request_id,
        causation_id=recorded.causation_id,
        correlation_id=recorded.correlation_id,
        traceparent=recorded.traceparent,
    )


async def test_appends_that_arrive_together_share_a_batch(log: EventLog) -> None:
    outcomes = await append_together(log, [new_append(events=2) for _ in range(20)])
    appended = [outcome for outcome in outcomes if isinstance(outcome, Appended)]
    assert len({outcome.recorded_at for outcome in appended}) == 1
    assert [outcome.first_position for outcome in appended] == list(range(1, 41, 2))


async def test_many_appends_go_two_ways_at_once_and_a_quota_holds(log: EventLog) -> None:
    await log.append(new_append(CounterLimit("cores", "p", 100)))
    outcomes = await append_together(log, [new_append(CounterAdd("cores", "p", 1), events=2) for _ in range(500)])
    appended = [outcome for outcome in outcomes if isinstance(outcome, Appended)]
    assert len(appended) == 100
    assert all(isinstance(outcome, LimitExceeded) for outcome in outcomes if not isinstance(outcome, Appended))
    assert await log.counter("cores", "p") == Counter(100, 100)
    assert sorted(outcome.first_position for outcome in appended) == list(range(2, 202, 2))
    assert [position for position, _ in await read_all(log)] == list(range(1, 202))


async def test_two_appends_to_one_aggregate_in_one_batch(log: EventLog) -> None:
    aggregate_id = uuid7()
    first, rival, second = await append_together(
        log, [new_append(aggregate_id=aggregate_id, version=version) for version in (1, 1, 2)]
    )
    assert isinstance(first, Appended) and isinstance(second, Appended)
    assert isinstance(rival, VersionConflict)
    assert (rival.aggregate_id, rival.version, rival.current) == (aggregate_id, 1, 1)
    assert (first.last_position, second.last_position) == (1, 2)


async def test_a_gap_in_the_versions_is_a_conflict(log: EventLog) -> None:
    """After a lossy promotion a process may still know events that the log has lost."""
    with pytest.raises(VersionConflict) as refused:
        await log.append(new_append(version=5))
    assert refused.value.current == 0


async def test_events_of_several_aggregates_are_all_or_nothing(log: EventLog) -> None:
    known = uuid7()
    await log.append(new_append(aggregate_id=known))
    fresh = uuid7()
    mixed = Append((new_event(fresh, 1), new_event(known, 1), new_event(fresh, 2)), (CounterAdd("q", "k", 1),))
    with pytest.raises(VersionConflict) as refused:
        await log.append(mixed)
    assert refused.value.aggregate_id == known
    assert await log.read_aggregate(fresh) == []
    assert await log.counter("q", "k") == Counter(0, None)
    both = Append((new_event(fresh, 1), new_event(known, 2), new_event(fresh, 2)))
    appended = await log.append(both)
    assert (appended.first_position, appended.last_position) == (2, 4)
    assert await read_all(log, after=1) == [(n, e.event_id) for n, e in enumerate(both.events, 2)]


async def test_a_unique_key_has_one_owner(log: EventLog) -> None:
    await log.append(new_append(UniqueClaim("address", "10.0.0.1", "port-a")))
    await log.append(new_append(UniqueClaim("address", "10.0.0.1", "port-a")))
    with pytest.raises(UniqueViolation) as refused:
        await log.append(new_append(UniqueClaim("address", "10.0.0.1", "port-b")))
    assert (refused.value.scope, refused.value.key, refused.value.owner) == ("address", "10.0.0.1", "port-a")
    await log.append(new_append(UniqueRelease("address", "10.0.0.1", "port-b")))
    assert await log.unique_owner("address", "10.0.0.1") == "port-a"
    await log.append(new_append(UniqueRelease("address", "10.0.0.1", "port-a")))
    assert await log.unique_owner("address", "10.0.0.1") is None


async def test_a_key_changes_hands_within_a_batch_and_within_an_append(log: EventLog) -> None:
    def claim(owner: str) -> UniqueClaim:
        return UniqueClaim("name", "web", owner)

    def release(owner: str) -> UniqueRelease:
        return UniqueRelease("name", "web", owner)

    await log.append(new_append(claim("a")))
    outcomes = await append_together(
        log,
        [
            new_append(claim("b")),
            new_append(release("a")),
            new_append(claim("b")),
            new_append(claim("a")),
            new_append(release("b"), claim("c")),
        ],
    )
    assert [type(outcome) for outcome in outcomes] == [
        UniqueViolation,
        Appended,
        Appended,
        UniqueViolation,
        Appended,
    ]
    assert await log.unique_owner("name", "web") == "c"
    assert (await log.head()).position == 4


async def test_a_quota_is_used_to_its_limit_and_not_beyond(log: EventLog) -> None:
    await log.append(new_append(CounterLimit("cores", "p", 5)))
    outcomes = await append_together(log, [new_append(CounterAdd("cores", "p", 2)) for _ in range(4)])
    assert [isinstance(outcome, Appended) for outcome in outcomes] == [True, True, False, False]
    refused = outcomes[2]
    assert isinstance(refused, LimitExceeded)
    assert (refused.used, refused.limit, refused.delta) == (4, 5, 2)
    assert await log.counters("cores") == {"p": Counter(4, 5)}


async def test_a_limit_below_what_is_used_refuses_only_more(log: EventLog) -> None:
    await log.append(new_append(CounterAdd("cores", "p", 10)))
    await log.append(new_append(CounterLimit("cores", "p", 3)))
    with pytest.raises(LimitExceeded):
        await log.append(new_append(CounterAdd("cores", "p", 1)))
    await log.append(new_append(CounterAdd("cores", "p", -1)))
    assert await log.counter("cores", "p") == Counter(9, 3)
    await log.append(new_append(CounterLimit("cores", "p", None), CounterAdd("cores", "p", 100)))
    assert await log.counter("cores", "p") == Counter(109, None)


async def test_a_limit_that_changes_within_the_batch_counts_for_what_follows(log: EventLog) -> None:
    add = CounterAdd("cores", "p", 1)
    outcomes = await append_together(log, [new_append(add), new_append(CounterLimit("cores", "p", 1)), new_append(add)])
    assert [isinstance(outcome, Appended) for outcome in outcomes] == [True, True, False]


async def test_a_counter_does_not_go_below_zero(log: EventLog) -> None:
    with pytest.raises(CounterUnderflow) as refused:
        await log.append(new_append(CounterAdd("cores", "p", -1)))
    assert (refused.value.used, refused.value.delta) == (0, -1)
    assert (await log.head()).position == 0


async def test_a_refused_append_is_taken_back_whole_for_those_that_follow_in_its_batch(log: EventLog) -> None:
    """Its last step fails after one of each kind has succeeded; what follows sees nothing of them."""
    known = uuid7()
    setup = (UniqueClaim("u", "mine", "a"), UniqueClaim("u", "theirs", "b"), CounterLimit("c", "k", 5))
    await log.append(new_append(*setup, CounterAdd("c", "k", 4), aggregate_id=known))
    refused = new_append(
        UniqueRelease("u", "mine", "a"),
        UniqueClaim("u", "mine", "z"),
        UniqueClaim("u", "fresh", "z"),
        CounterAdd("c", "k", -4),
        CounterAdd("c", "k", 3),
        CounterLimit("c", "k", 100),
        UniqueClaim("u", "theirs", "z"),
        aggregate_id=known,
        version=2,
    )
    outcomes = await append_together(
        log,
        [
            refused,
            new_append(aggregate_id=known, version=2),
            new_append(UniqueClaim("u", "mine", "c")),
            new_append(UniqueClaim("u", "fresh", "c")),
            new_append(CounterAdd("c", "k", 2)),
            new_append(CounterAdd("c", "k", 1)),
        ],
    )
    assert isinstance(outcomes[0], UniqueViolation)
    assert [isinstance(outcome, Appended) for outcome in outcomes[1:]] == [True, False, True, False, True]
    assert await log.unique_keys("u") == {"mine": "a", "theirs": "b", "fresh": "c"}
    assert await log.counter("c", "k") == Counter(5, 5)


async def test_refusals_leave_no_gap(log: EventLog) -> None:
    taken = new_append(UniqueClaim("name", "web", "a"))
    await log.append(taken)
    bad = [new_append(UniqueClaim("name", "web", "b"), events=3) for _ in range(20)]
    good = [new_append(events=2) for _ in range(20)]
    await append_together(log, [append for pair in zip(bad, good, strict=True) for append in pair])
    assert [position for position, _ in await read_all(log)] == list(range(1, 42))


async def test_the_same_append_again_is_found(log: EventLog) -> None:
    append = new_append(CounterAdd("cores", "p", 1), events=3)
    first, second = await append_together(log, [append, append])
    assert first == second == await log.append(append)
    assert await log.counter("cores", "p") == Counter(1, None)
    assert (await log.head()).position == 3


async def test_other_events_in_the_same_place_are_a_conflict(log: EventLog) -> None:
    append = new_append(events=2)
    await log.append(append)
    altered = Append((append.events[0], new_event(append.events[0].aggregate_id, 2)))
    with pytest.raises(VersionConflict):
        await log.append(altered)


async def test_cancelling_an_append_does_not_disturb_the_others(log: EventLog) -> None:
    tasks = [asyncio.create_task(log.append(new_append())) for _ in range(30)]
    await asyncio.sleep(0)
    for task in tasks[::3]:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for number, outcome in enumerate(outcomes):
        assert isinstance(outcome, asyncio.CancelledError if number % 3 == 0 else Appended)
    assert await log.append(new_append())


async def test_an_append_that_postgres_cannot_take_fails_alone(log: EventLog) -> None:
    """A sum beyond 64 bits can't be foreseen by the check, and makes Postgres refuse the whole statement."""
    await log.append(new_append(CounterAdd("cores", "p", 1)))
    await log.pool.execute(f'UPDATE "{log.schema}".counters SET used = 9223372036854775807')
    appends = [new_append(), new_append(CounterAdd("cores", "p", 1)), new_append()]
    outcomes = await append_together(log, appends)
    assert [isinstance(outcome, Appended) for outcome in outcomes] == [True, False, True]


@pytest.mark.parametrize(
    "append",
    [
        Append(()),
        Append((new_event(uuid7(), 1, data=b"x" * (MAX_EVENT_BYTES + 1)),)),
        new_append(version=0),
        new_append(UniqueClaim("name", "a\0b", "c")),
        new_append(UniqueClaim("name", "\ud800", "c")),
        new_append(UniqueClaim("name", "k" * 5000, "c")),
        new_append(CounterLimit("cores", "p", -1)),
        new_append(context=Context(actor="a\0b")),
    ],
)
async def test_what_can_never_be_written_is_refused_at_once(log: EventLog, append: Append) -> None:
    with pytest.raises(InvalidAppend):
        await log.append(append)


async def test_the_largest_event_is_taken(log: EventLog) -> None:
    appends = [Append((new_event(uuid7(), 1, data=bytes(MAX_EVENT_BYTES)),)) for _ in range(9)]
    outcomes = await append_together(log, appends)
    assert all(isinstance(outcome, Appended) for outcome in outcomes)
    [first] = await log.read(after=0, limit=1)
    assert first.data == bytes(MAX_EVENT_BYTES)


async def test_time_does_not_decrease_when_the_clock_does(log: EventLog) -> None:
    await log.append(new_append())
    await log.pool.execute(f"UPDATE \"{log.schema}\".head SET recorded_at = recorded_at + interval '1 hour'")
    ahead = (await log.head()).recorded_at
    appended = await log.append(new_append())
    assert appended.recorded_at == ahead


async def test_replicas_may_create_the_log_at_once(open_log: OpenLog) -> None:
    logs = await asyncio.gather(*(open_log() for _ in range(6)))
    await asyncio.gather(*(log.append(new_append()) for log in logs))
    assert [position for position, _ in await read_all(logs[0])] == list(range(1, 7))
