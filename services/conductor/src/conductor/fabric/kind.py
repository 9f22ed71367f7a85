"""A kind of derived object: whom an event concerns, and what they shall have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from google.protobuf.message import Message

from conductor.fabric.facts import Facts

Cell = tuple[str, str]
"""Host and object id."""


class Kind(Protocol):
    """One kind. Pure: the facts decide, and nothing is remembered that they don't hold (but to be quicker)."""

    @property
    def name(self) -> str:
        """As in `DesiredObject.kind`; with "_" for "-", the field of its spec."""

    def affected(self, facts: Facts) -> Iterable[Cell]:
        """Whose row this event may have changed, by the journals of the tables: not one too few; one too many costs a
        look. Never hosts that had no such object and get none: their number must not count."""

    def spec(self, facts: Facts, host: str, object_id: str) -> Message | None:
        """What the host shall have; None for nothing. The same message for several hosts is encoded once."""

    def all(self, facts: Facts) -> Iterator[Cell]:
        """Who has what now, whatever happened before: what `affected` is held against, in tests."""
