"""What the end of the stream tells of the log."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from core.eventlog.types import Head
from core.relay.verdict import Evidence, Identity, Lost, Stale, StreamEnd, Whole, judge

EVENT = uuid4()
NOW = datetime.now(UTC)


def head(position: int, epoch: int = 1) -> Head:
    return Head(position, epoch, NOW)


def end(sequence: int, *, event: UUID = EVENT, epoch: int = 1, recorded: UUID | None = EVENT) -> StreamEnd:
    return StreamEnd(
        last_sequence=sequence,
        is_empty=False,
        first_configured=1,
        last=Identity(event, epoch),
        recorded=None if recorded is None else Identity(recorded, 1),
    )


def empty(sequence: int, *, first: int) -> StreamEnd:
    return StreamEnd(last_sequence=sequence, is_empty=True, first_configured=first, last=None, recorded=None)


def verdict(stream: StreamEnd | None, of: Head, *, same_server: bool = True) -> Whole | Stale | Lost:
    return judge(Evidence(head=of, same_server=same_server, stream=stream), refill=100)


def test_a_mirror_is_resumed() -> None:
    assert verdict(end(10), head(10)) == Whole(10)
    assert verdict(end(10), head(5000)) == Whole(10)
    assert verdict(empty(0, first=1), head(0)) == Whole(0)
    assert verdict(empty(40, first=41), head(90)) == Whole(40)


@pytest.mark.parametrize(
    "stream",
    [
        None,
        empty(10, first=1),  # purged
        empty(0, first=1),  # made anew, far behind
        replace(end(10), last=None),  # its last message was deleted
        replace(end(10), has_foreign_end=True),
        end(10, event=uuid4(), epoch=1),  # of before the epoch that has begun since
        replace(end(700, recorded=None), last=Identity(uuid4(), 1)),
    ],
)
def test_a_stream_is_made_anew_when_the_log_is_not_to_blame(stream: StreamEnd | None) -> None:
    assert isinstance(verdict(stream, head(500, epoch=2)), Stale)


def test_what_was_published_and_is_not_in_the_log_is_lost() -> None:
    assert verdict(end(600, recorded=None), head(500)) == Lost(
        "event 600 was published, and the log ends at 500", published=600, above=1
    )
    another = verdict(end(400, event=uuid4()), head(500))
    assert isinstance(another, Lost)
    assert (another.published, another.above) == (0, 1)


def test_a_stream_whose_last_message_is_gone_still_tells_how_far_it_was() -> None:
    lost = verdict(empty(600, first=1), head(500))
    assert isinstance(lost, Lost)
    assert (lost.published, lost.above) == (600, 0)


def test_a_log_of_before_the_last_epoch_is_told_which_one_that_was() -> None:
    lost = verdict(end(600, epoch=7, recorded=None), head(500, epoch=2))
    assert isinstance(lost, Lost)
    assert lost.above == 7


def test_the_same_event_in_another_epoch_is_another_history() -> None:
    assert isinstance(verdict(end(10, epoch=2), head(10)), Lost)


def test_another_server_must_be_shown_to_be_whole() -> None:
    assert verdict(end(10), head(10), same_server=False) == Whole(10)
    for stream in (None, empty(0, first=1), replace(end(10), last=None)):
        assert isinstance(verdict(stream, head(500), same_server=False), Lost)
