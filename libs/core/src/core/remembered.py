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
        # Each history is all that had happened to it up to here.
        self._whole_up_to: dict[UUID, int] = {}
        # What a history has made of its aggregate, for those who only look at it.
        self._made: dict[UUID, tuple[History, Any]] = {}
        # The last version heard of: what was read before that came is out of date.
        self._heard: OrderedDict[UUID, int] = OrderedDict()

    def history(self, aggregate_id: UUID) -> History | None:
        """It may be a beginning only."""
        self._forget_another_life()
        history = self._histories.get(aggregate_id)
        if history is not None:
            self._histories.move_to_end(aggregate_id)
        return history

    def followed(self, aggregate_id: UUID, at_least: int) -> History | None:
        """With all that happened up to position *at_least*; nothing where nobody follows the log."""
        history = self.history(aggregate_id)
        if history is None or self.position < 0:
            return None
        return history if max(self.position, self._whole_up_to[aggregate_id]) >= at_least else None

    def made_of(self, aggregate_id: UUID, history: History, make: Callable[[History], Any]) -> Any:
        """What *make* makes of the history that is remembered: once, as long as that is remembered."""
        made = self._made.get(aggregate_id)
        if made is None or made[0] is not history:
            made = self._made[aggregate_id] = history, make(history)
        return made[1]

    def keep(self, aggregate_id: UUID, history: History, *, up_to: int = 0) -> None:
        """What was just read: all of it, when the log had reached position *up_to* at least."""
        self._forget_another_life()
        known = max(self._heard.get(aggregate_id, 0), len(self._histories.get(aggregate_id, ())))
        if len(history) < known:
            return
        if not history or len(history) > _EVENTS:
            self.forget(aggregate_id)
            return
        self._histories[aggregate_id] = history
        self._histories.move_to_end(aggregate_id)
        self._whole_up_to[aggregate_id] = max(up_to, self._whole_up_to.get(aggregate_id, 0))
        while len(self._histories) > _AGGREGATES:
            self.forget(next(iter(self._histories)))

    def appended(self, aggregate_id: UUID, events: History, *, up_to: int = 0) -> None:
        """What was just appended to it, here, by an append that ends at position *up_to*."""
        self._forget_another_life()
        first: int = events[0].originator_version
        before = () if first == 1 else self._histories.get(aggregate_id)
        if before is not None and len(before) == first - 1:
            self.keep(aggregate_id, (*before, *events), up_to=up_to)
        else:
            self.forget(aggregate_id)

    def happened(self, event: RecordedEvent) -> None:
        """An event of the log, here or elsewhere, in order of position."""
        history = self._histories.get(event.aggregate_id)
        if history is not None and len(history) < event.version:
            self.forget(event.aggregate_id)
        self._heard[event.aggregate_id] = event.version
        self._heard.move_to_end(event.aggregate_id)
        if len(self._heard) > _AGGREGATES:
            self._heard.popitem(last=False)
        self.position = event.position

    def forget(self, aggregate_id: UUID) -> None:
        self._histories.pop(aggregate_id, None)
        self._whole_up_to.pop(aggregate_id, None)
        self._made.pop(aggregate_id, None)

    def _forget_another_life(self) -> None:
        if self._life != self._connections():
            self.clear()

    def clear(self) -> None:
        """Nothing is known any more, and nobody follows the log until `happened` says so."""
        self._life = self._connections()
        self._histories.clear()
        self._whole_up_to.clear()
        self._made.clear()
        self._heard.clear()
        self.position = -1
