"""What happened to the aggregates that this process used last, so that the log is not asked for it again and again.

Of an aggregate the beginning of its history is remembered, as far as it was seen here: an append checks the version, so
a decision that rests on too little is refused and made again. Everything is forgotten when the log's connection was
lost: what is behind a new one may be restored, with another history. A process that follows the log says what happened
elsewhere; only there can a remembered aggregate be told from one that others have changed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from core.eventlog.types import RecordedEvent

_AGGREGATES = 2048
_EVENTS = 200

History = Sequence[Any]
"""Domain events from version 1 on, without a gap."""


class Remembered:
    """`connections`: how many connections the log's writer has made; another number, another life.

    `position`: everything that happened up to there has been told by `happened`; -1 while nobody follows the log.
    """

    def __init__(self, connections: Callable[[], int]) -> None:
        self.position = -1
        self._connections = connections
        self._life = connections()
        self._histories: OrderedDict[UUID, History] = OrderedDict()
        # The last version heard of: what was read before that came is out of date.
        self._heard: OrderedDict[UUID, int] = OrderedDict()

    def history(self, aggregate_id: UUID) -> History | None:
        self._forget_another_life()
        history = self._histories.get(aggregate_id)
        if history is not None:
            self._histories.move_to_end(aggregate_id)
        return history

    def keep(self, aggregate_id: UUID, history: History) -> None:
        """What was just read: all of it."""
        self._forget_another_life()
        known = max(self._heard.get(aggregate_id, 0), len(self._histories.get(aggregate_id, ())))
        if len(history) < known:
            return
        if not history or len(history) > _EVENTS:
            self.forget(aggregate_id)
            return
        self._histories[aggregate_id] = history
        self._histories.move_to_end(aggregate_id)
        while len(self._histories) > _AGGREGATES:
            self._histories.popitem(last=False)

    def appended(self, aggregate_id: UUID, events: History) -> None:
        """What was just appended to it, here."""
        self._forget_another_life()
        first: int = events[0].originator_version
        before = () if first == 1 else self._histories.get(aggregate_id)
        if before is not None and len(before) == first - 1:
            self.keep(aggregate_id, (*before, *events))
        else:
            self.forget(aggregate_id)

    def happened(self, event: RecordedEvent) -> None:
        """An event of the log, here or elsewhere, in order of position."""
        history = self._histories.get(event.aggregate_id)
        if history is not None and len(history) < event.version:
            del self._histories[event.aggregate_id]
        self._heard[event.aggregate_id] = event.version
        self._heard.move_to_end(event.aggregate_id)
        if len(self._heard) > _AGGREGATES:
            self._heard.popitem(last=False)
        self.position = event.position

    def forget(self, aggregate_id: UUID) -> None:
        self._histories.pop(aggregate_id, None)

    def _forget_another_life(self) -> None:
        if self._life != self._connections():
            self.clear()

    def clear(self) -> None:
        """Nothing is known any more, and nobody follows the log until `happened` says so."""
        self._life = self._connections()
        self._histories.clear()
        self._heard.clear()
        self.position = -1
