"""What updates have in common: a mask of fields, and an etag of the state that the caller knew (AIP-134, AIP-154)."""

from __future__ import annotations

from conductor.fields import Fields
from core.aggregate import Aggregate
from core.errors import Conflict
from core.eventlog.log import EventLog
from core.masks import check_mask

__all__ = ["check_etag", "check_mask", "require_unchanged"]


def check_etag(fields: Fields, etag: str) -> None:
    """The gateway makes a position of an etag: up to there its caller knows the thing."""
    if etag and not etag.isdecimal():
        fields.refuse("etag", "it is no position: the gateway makes one of what its caller gives")


async def require_unchanged(log: EventLog, aggregate: Aggregate, etag: str, version: int | None = None) -> None:
    """Raises Conflict if something has happened to it since. Its version guards what comes now.

    `etag`: empty: no matter. `version`: of the last event about a part of the aggregate, when it is that that counts.
    """
    if not etag:
        return
    last = version or aggregate.version
    [event, *_] = await log.read_aggregate(aggregate.id, after_version=last - 1)
    if event.position > int(etag):
        raise Conflict(
            f"{aggregate.kind} {aggregate.id} has changed since it was read",
            reason="ETAG_MISMATCH",
            retryable=False,
            remedy="read it again, and decide anew",
        )
