"""What a process remembers of aggregates: never a gap, never what others have changed since."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

from core.eventlog.types import RecordedEvent
from core.ids import uuid7
from core.remembered import Remembered


@dataclass(frozen=True, slots=True)
class Happened:
    originator_version: int


def history(versions: int) -> list[Happened]:
    return [Happened(version) for version in range(1, versions + 1)]


def recorded(aggregate_id: UUID, version: int, position: int) -> RecordedEvent:
    blank = RecordedEvent(0, 1, uuid7(), "", aggregate_id, 0, "", 1, b"", datetime.now(UTC), "", "", "", "", "")
    return replace(blank, version=version, position=position)


THING = uuid7()


def test_what_is_appended_here_follows_what_is_known() -> None:
    remembered = Remembered(lambda: 1)
    remembered.keep(THING, history(2))
    remembered.appended(THING, [Happened(3), Happened(4)])
    assert remembered.history(THING) == tuple(history(4))


def test_a_new_aggregate_is_known_from_its_first_append() -> None:
    remembered = Remembered(lambda: 1)
    remembered.appended(THING, history(2))
    assert remembered.history(THING) == tuple(history(2))


def test_an_append_that_leaves_a_gap_is_forgotten() -> None:
    remembered = Remembered(lambda: 1)
    remembered.appended(THING, [Happened(3)])
    assert remembered.history(THING) is None
    remembered.keep(THING, history(1))
    remembered.appended(THING, [Happened(3)])
    assert remembered.history(THING) is None


def test_what_others_have_changed_is_forgotten() -> None:
    remembered = Remembered(lambda: 1)
    remembered.keep(THING, history(2))
    remembered.happened(recorded(THING, 2, 8))
    assert remembered.history(THING) == history(2)
    remembered.happened(recorded(THING, 3, 9))
    assert remembered.history(THING) is None
    assert remembered.position == 9


def test_a_read_that_was_overtaken_is_not_kept() -> None:
    remembered = Remembered(lambda: 1)
    remembered.happened(recorded(THING, 3, 9))
    remembered.keep(THING, history(2))  # read before the third event came
    assert remembered.history(THING) is None
    remembered.keep(THING, history(3))
    remembered.keep(THING, history(2))
    assert remembered.history(THING) == history(3)


def test_behind_another_connection_everything_is_another() -> None:
    connections = 1
    remembered = Remembered(lambda: connections)
    remembered.keep(THING, history(2))
    remembered.happened(recorded(uuid7(), 1, 7))
    connections = 2
    assert remembered.history(THING) is None
    assert remembered.position == -1


def test_the_least_used_are_forgotten_first() -> None:
    remembered = Remembered(lambda: 1)
    remembered.keep(THING, history(1))
    others = [uuid7() for _ in range(3000)]
    for other in others:
        remembered.history(THING)
        remembered.keep(other, history(1))
    assert remembered.history(THING) is not None
    assert remembered.history(others[0]) is None
    assert remembered.history(others[-1]) is not None


def test_a_history_is_whole_up_to_where_it_was_read_or_appended() -> None:
    remembered = Remembered(lambda: 1)
    remembered.happened(recorded(uuid7(), 1, 1))
    remembered.keep(THING, history(2), up_to=7)
    assert remembered.followed(THING, 7) == history(2)
    assert remembered.followed(THING, 8) is None
    remembered.appended(THING, [Happened(3)], up_to=9)
    assert remembered.followed(THING, 9) == tuple(history(3))
    remembered.keep(THING, history(3), up_to=8)  # read before the append was known here
    assert remembered.followed(THING, 9) is not None
    assert remembered.followed(THING, 10) is None
    remembered.happened(recorded(uuid7(), 1, 10))
    assert remembered.followed(THING, 10) is not None


def test_who_does_not_follow_the_log_does_not_know_what_others_do() -> None:
    remembered = Remembered(lambda: 1)
    remembered.appended(THING, history(1), up_to=9)
    assert remembered.history(THING) is not None
    assert remembered.followed(THING, 0) is None


def test_what_was_forgotten_is_whole_up_to_nowhere() -> None:
    remembered = Remembered(lambda: 1)
    remembered.appended(THING, history(1), up_to=9)
    remembered.happened(recorded(THING, 2, 5))  # a log that was restored
    remembered.keep(THING, history(2))
    assert remembered.followed(THING, 5) is not None
    assert remembered.followed(THING, 9) is None


def test_what_a_history_has_made_is_made_once_until_more_has_happened() -> None:
    remembered = Remembered(lambda: 1)
    remembered.appended(THING, history(1))

    def made() -> object:
        known = remembered.history(THING)
        assert known is not None
        return remembered.made_of(THING, known, list)

    first = made()
    assert made() is first
    remembered.appended(THING, [Happened(2)])
    assert made() == history(2)
    remembered.forget(THING)
    remembered.keep(THING, tuple(history(1)))
    assert made() == history(1)
