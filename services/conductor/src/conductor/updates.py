"""What updates have in common: a mask of fields, and an etag of the state that the caller knew (AIP-134, AIP-154)."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from conductor.fields import Fields
from core.aggregate import Aggregate
from core.errors import Conflict
from core.eventlog.log import EventLog


def check_mask(fields: Fields, paths: Iterable[str], updatable: Collection[str], *, map_field: str = "") -> None:
    """`map_field`: a field whose keys may be named one by one, as in "metadata.KEY"."""
    known = ", ".join((*updatable, f"{map_field}.KEY") if map_field else updatable)
    named = list(paths)
    if not named:
        fields.refuse("update_mask", f"it is empty: name some of {known}")
    for path in named:
        if path not in updatable and not (map_field and path.startswith(f"{map_field}.")):
            fields.refuse("update_mask", f"{path!r} can't be set: give some of {known}")


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
