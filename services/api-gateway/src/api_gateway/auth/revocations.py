"""Which tokens were revoked: all of them in memory, since every request asks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import UUID

from cirra.identity.v1.events_pb2 import TokenRevoked
from core.eventlog.log import EventLog
from core.eventlog.types import RecordedEvent

_AGGREGATE_TYPE = "token"
_CHUNK = 1000


class Revocations:
    """A token that has expired needs no revocation: it is forgotten."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._expiry: dict[UUID, datetime] = {}
        self._told: dict[UUID, set[Callable[[], None]]] = defaultdict(set)

    def __contains__(self, token_id: UUID) -> bool:
        return token_id in self._expiry

    def __len__(self) -> int:
        return len(self._expiry)

    async def load(self, log: EventLog, up_to: int) -> None:
        """What the log holds up to a position."""
        after = 0
        while events := await log.list_events(aggregate_type=_AGGREGATE_TYPE, after=after, up_to=up_to, limit=_CHUNK):
            for event in events:
                self.heard(event)
            after = events[-1].position

    def heard(self, event: RecordedEvent) -> None:
        """Takes in an event; those that revoke no token mean nothing here."""
        if event.type == TokenRevoked.DESCRIPTOR.full_name:
            self.add(event.aggregate_id, TokenRevoked.FromString(event.data))

    def add(self, token_id: UUID, revoked: TokenRevoked) -> None:
        """Also drops what has expired meanwhile, so that the set stays as small as the tokens' lifetime lets it be."""
        now = self._now()
        for expired in [known for known, expiry in self._expiry.items() if expiry <= now]:
            del self._expiry[expired]
        expiry = revoked.expire_time.ToDatetime(UTC)
        if expiry > now:
            self._expiry[token_id] = expiry
        for tell in self._told.get(token_id, ()):
            tell()

    @contextmanager
    def telling(self, token_id: UUID, tell: Callable[[], None]) -> Iterator[None]:
        """Within it, `tell` is called when the token is revoked."""
        self._told[token_id].add(tell)
        try:
            yield
        finally:
            self._told[token_id].discard(tell)
            if not self._told[token_id]:
                del self._told[token_id]
