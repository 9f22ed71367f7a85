"""The feed of what happens now: who begins a little before now misses nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import pytest

from api_gateway.events.feed import Feed, Subscription
from core.errors import Unavailable
from core.eventlog.types import RecordedEvent
from core.ids import uuid7

ONE, OTHER = uuid7(), uuid7()


def event(position: int, aggregate_id: UUID = ONE) -> RecordedEvent:
    return RecordedEvent(
        position=position,
        epoch=1,
        event_id=uuid7(),
        aggregate_type="saga",
        aggregate_id=aggregate_id,
        version=position,
        type="cirra.operations.v1.StepStarted",
        schema_version=1,
        data=b"",
        recorded_at=datetime.now(UTC),
        actor="",
        request_id="",
        causation_id="",
        correlation_id="",
        traceparent="",
    )


async def fed(*events: RecordedEvent) -> Feed:
    feed = Feed(cast(Any, None), cast(Any, None))
    feed.position = events[0].position - 1
    for each in events:
        await feed._deliver([each])
    return feed


async def queued(subscription: Subscription) -> list[int]:
    batch = await anext(subscription.batches())
    return [each.position for each in batch]


async def test_who_begins_a_little_before_now_gets_what_followed_that() -> None:
    feed = await fed(event(11), event(12, OTHER), event(13), event(14))
    with feed.subscribe(ONE, after=11) as subscription:
        assert subscription.after == 11
        await feed._deliver([event(15)])
        assert await queued(subscription) == [13, 14, 15]
    with feed.subscribe(after=11) as subscription:
        assert await queued(subscription) == [12, 13, 14, 15]


async def test_who_begins_before_all_that_the_feed_remembers_begins_now() -> None:
    feed = await fed(event(11), event(12))
    with feed.subscribe(ONE, after=9) as subscription:
        assert subscription.after == 12
        await feed._deliver([event(13)])
        assert await queued(subscription) == [13]


async def test_who_begins_ahead_of_the_feed_begins_at_the_feed() -> None:
    feed = await fed(event(11))
    with feed.subscribe(ONE, after=20) as subscription:
        assert subscription.after == 11


async def test_what_is_queued_is_delivered_before_the_end() -> None:
    feed = await fed(event(11))
    with feed.subscribe(ONE) as subscription:
        await feed._deliver([event(12)])
        subscription.end("the log was restored")
        assert [each.position for each in await subscription.batch()] == [12]
        for _ in range(2):
            with pytest.raises(Unavailable, match="restored"):
                await subscription.batch()
