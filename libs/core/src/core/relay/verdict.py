"""What the end of stream EVENTS tells of the log: has it all that was published? Pure.

A sequence alone proves nothing: after a restore the same position may hold another event. So the stream's last message
is compared with the log by event id and epoch. Three findings:

- the stream is the log's mirror: go on from its end;
- it is not, and the log is not to blame (wiped, truncated, far behind, not rebuilt yet since the epoch was raised):
  rebuild the stream;
- events were published that the log has not: it was restored, or promoted with a loss. A new epoch begins.

A server that is not the one of before (a standby was promoted, a backup restored) is whole only if the stream shows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from core.eventlog.types import Head


@dataclass(frozen=True, slots=True)
class Identity:
    """Which event it is."""

    event_id: UUID
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEnd:
    """`last`: the message at `last_sequence`; None when there is none any more.

    `has_foreign_end`: behind it come messages that are no events. `first_configured`: where the stream was told to
    begin. `recorded`: what the log holds at `last_sequence`.
    """

    last_sequence: int
    is_empty: bool
    has_foreign_end: bool = False
    first_configured: int
    last: Identity | None
    recorded: Identity | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """`stream` None: there is none. `head` was read after it. `same_server`: Postgres is the one of before."""

    head: Head
    same_server: bool
    stream: StreamEnd | None


@dataclass(frozen=True, slots=True)
class Whole:
    """The stream holds the log up to `position`."""

    position: int


@dataclass(frozen=True, slots=True)
class Stale:
    """The stream must be made anew."""

    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The log lost events, or can't be shown to have them all. `published`: up to where, if that is known to be beyond
    the log's end; `above`: the next epoch is higher than this one."""

    reason: str
    published: int = 0
    above: int = 0


Verdict = Whole | Stale | Lost


def judge(evidence: Evidence, *, refill: int) -> Verdict:
    """`refill`: a stream that is empty and further behind than this is made anew."""
    verdict = _judge_stream(evidence.stream, evidence.head, refill)
    if evidence.same_server or not isinstance(verdict, Stale):
        return verdict
    return Lost(f"Postgres is another server than before, and nothing shows that it has all events: {verdict.reason}")


def _judge_stream(stream: StreamEnd | None, head: Head, refill: int) -> Verdict:
    if stream is None:
        return Stale("there is no stream")
    last = stream.last
    if last is not None and last == stream.recorded:
        return Stale("messages at its end are no events") if stream.has_foreign_end else Whole(stream.last_sequence)
    if last is not None and last.epoch < head.epoch:
        return Stale(f"it is of epoch {last.epoch}, which epoch {head.epoch} has followed")
    if stream.last_sequence > head.position:
        return Lost(
            f"event {stream.last_sequence} was published, and the log ends at {head.position}",
            published=stream.last_sequence,
            above=last.epoch if last is not None else 0,
        )
    if last is not None:
        return Lost(f"the log holds another event at {stream.last_sequence} than was published", above=last.epoch)
    if not stream.is_empty or stream.last_sequence + 1 != stream.first_configured:
        return Stale("its last message is gone")
    if head.position - stream.last_sequence > refill:
        return Stale("it begins too far back")
    return Whole(stream.last_sequence)
