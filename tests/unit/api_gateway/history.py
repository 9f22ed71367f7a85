"""Recorded events for tests of reducers, made as the log would return them."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from google.protobuf.message import Message

from api_gateway.views.fold import Fold
from api_gateway.views.view import Row, View
from core.eventlog.types import RecordedEvent

BEGIN = datetime(2030, 1, 1, tzinfo=UTC)


class History:
    """A log in memory: one second between events, positions from 1."""

    def __init__(self) -> None:
        self.events: list[RecordedEvent] = []
        self._versions: dict[UUID, int] = defaultdict(int)

    def add(self, aggregate_type: str, aggregate_id: UUID, message: Message) -> RecordedEvent:
        self._versions[aggregate_id] += 1
        position = len(self.events) + 1
        event = RecordedEvent(
            position=position,
            epoch=1,
            event_id=uuid4(),
            aggregate_type=aggregate_type,
            aggregate_id=aggregate_id,
            version=self._versions[aggregate_id],
            type=message.DESCRIPTOR.full_name,
            schema_version=1,
            data=message.SerializeToString(),
            recorded_at=BEGIN + timedelta(seconds=position),
            actor="u1",
            request_id="",
            causation_id="",
            correlation_id="c1",
            traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
        self.events.append(event)
        return event

    def add_all(self, aggregate_type: str, aggregate_id: UUID, *messages: Message) -> None:
        for message in messages:
            self.add(aggregate_type, aggregate_id, message)


def row_of(history: History, view: View[Any], uid: UUID | str) -> Row[Any]:
    """What the events have made of the thing."""
    row = Fold().apply_all(history.events).get(view, str(uid))
    assert row is not None
    return row
