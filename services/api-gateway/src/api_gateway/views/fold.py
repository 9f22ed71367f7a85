"""A read model in memory: for reads AS OF, for watchers, and for tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from api_gateway.views.decoding import decode
from api_gateway.views.registry import VIEWS, VIEWS_OF_EVENT
from api_gateway.views.view import R, Row, View
from core.eventlog.types import RecordedEvent


class Fold:
    """Rows by kind and uid. Begins empty, or with copies of rows that a store has read."""

    def __init__(self, rows: Iterable[Row[Any]] = (), *, only: Iterable[View[Any]] = VIEWS) -> None:
        """`only`: the views that are folded."""
        self._rows: dict[tuple[str, str], Row[Any]] = {(row.kind, row.uid): row for row in rows}
        self._kinds = frozenset(view.kind for view in only)

    def apply(self, event: RecordedEvent) -> list[Row[Any]]:
        """Takes in one event, in order of position; the rows that it changed. Raises DecodeError.

        A row that a store read after the event has it already.
        """
        views = [view for view in VIEWS_OF_EVENT.get(event.type, ()) if view.kind in self._kinds]
        message = decode(event) if views else None
        if message is None:
            return []
        changed = []
        for view in views:
            key = (view.kind, view.uid_of(event, message))
            present = self._rows.get(key)
            if present is not None and present.update_position >= event.position:
                continue
            row = view.apply(present, event, message)
            if row is not None:
                self._rows[key] = row
                changed.append(row)
        return changed

    def apply_all(self, events: Iterable[RecordedEvent]) -> Fold:
        for event in events:
            self.apply(event)
        return self

    def forget(self, row: Row[Any]) -> None:
        self._rows.pop((row.kind, row.uid), None)

    def get(self, view: View[R], uid: str) -> Row[R] | None:
        return self._rows.get((view.kind, uid))

    def rows(self, view: View[R]) -> Iterator[Row[R]]:
        """All of a kind, deleted ones too."""
        return (row for (kind, _), row in self._rows.items() if kind == view.kind)
