"""The view of this replica, kept up to date from the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol
from uuid import UUID

from cirra.placement.v1 import events_pb2 as pb
from core.eventlog.types import RecordedEvent
from core.projection import Moves
from placement.hosts.table import HostTable
from placement.hosts.view import Held, HostView


class Tail(Protocol):
    """As `core.projection.EventTail`: the next events of the log, one at least; `look`: it looks for them at once."""

    async def next(self) -> Sequence[RecordedEvent]: ...

    def look(self) -> None: ...


class LiveView:
    """`follow` takes in the log for ever; everything else reads."""

    def __init__(self) -> None:
        self._view = HostView()
        self._moves = Moves()
        self._tail: Tail | None = None

    def silent_lately(self, within_s: float) -> list[int]:
        """As `HostView.silent_lately`."""
        return self._view.silent_lately(within_s)

    @property
    def position(self) -> int:
        return self._view.position

    @property
    def table(self) -> HostTable:
        return self._view.table

    @property
    def boots(self) -> Mapping[str, Mapping[str, str]]:
        """Host → the boots that its agents were declared up in, of those that are UP."""
        return self._view.boots

    def zone_of(self, host: str) -> str:
        return self.table.zones.get(self.table.row(host))

    def reserve(self, made: pb.ClaimMade) -> Held:
        """Counts with a claim of our own that is about to be made."""
        return self._view.reserve(made)

    def cancel(self, held: Held) -> None:
        """It was not made."""
        self._view.cancel(held)

    def confirm(self, held: Held, claim_id: UUID, attempt: int, position: int) -> None:
        """It is in the log, at that position."""
        self._view.confirm(held, claim_id, attempt, position)

    async def wait_for(self, position: int, timeout_s: float) -> bool:
        """True once the view is as new as `position`, where the log ends or before; False when it is not in time."""
        if self.position >= position:
            return True
        if self._tail is not None:
            self._tail.look()  # what lies between may be of no concern: the stream does not tell of it
        return await self._moves.until(lambda: self.position >= position, timeout_s)

    async def follow(self, tail: Tail) -> None:
        """Takes in events for ever. A new history (after a restore) is a new `LiveView`: the process restarts."""
        self._tail = tail
        while True:
            for event in await tail.next():
                self._view.apply(event)
            await self._moves.tell()
