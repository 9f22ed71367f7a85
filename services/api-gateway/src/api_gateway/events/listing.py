"""Events of the log as the public sees them: decoded, secrets redacted, each project its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from api_gateway.views.decoding import decode
from api_gateway.views.store import Store, is_admin
from cirra.events.v1 import events_pb2 as pb
from cirra.identity.v1.identity_pb2 import Principal
from core.errors import NotFound
from core.eventlog.log import EventLog
from core.eventlog.types import RecordedEvent
from core.ids import last_segment, parse_uuid
from core.sealing import redact

if TYPE_CHECKING:
    from uuid import UUID

# A listing reads at most so many events of others for one page: a page may be short, and its token goes on.
MAX_SCANNED = 20_000
_CHUNK = 1000


def public_event(event: RecordedEvent) -> pb.Event:
    """Without the data where this gateway does not know their type: it could not redact them."""
    shown = pb.Event(
        position=event.position,
        epoch=event.epoch,
        event_id=str(event.event_id),
        aggregate_type=event.aggregate_type,
        aggregate_id=str(event.aggregate_id),
        aggregate_version=event.version,
        type=event.type,
        actor=event.actor,
        request_id=event.request_id,
        causation_id=event.causation_id,
        correlation_id=event.correlation_id,
        traceparent=event.traceparent,
    )
    shown.time.FromDatetime(event.recorded_at)
    try:
        message = decode(event)
    except DecodeError:
        return shown
    if message is not None:
        shown.data.Pack(redact(message))
    return shown


class Sight:
    """Which events a caller may see: an administrator all, or those of one project; others those of their own's."""

    def __init__(self, store: Store, principal: Principal, project_id: str = "") -> None:
        """`project_id`: only its resources' events, for an administrator."""
        self._store = store
        self._all = is_admin(principal) and not project_id
        self._project_id = project_id if is_admin(principal) else principal.project_id
        self._projects: dict[str, str] = {}

    async def visible(self, events: Sequence[RecordedEvent]) -> list[RecordedEvent]:
        if self._all:
            return list(events)
        unknown = {str(event.aggregate_id) for event in events} - self._projects.keys()
        if unknown:
            self._projects.update(await self._store.projects_of(unknown))
        return [event for event in events if self._project_id and self._project(event) == self._project_id]

    def _project(self, event: RecordedEvent) -> str:
        return self._projects.get(str(event.aggregate_id), "")


@dataclass(frozen=True, slots=True)
class Listed:
    """`scanned`: the position up to which the log was looked through; `more`: it goes on after it."""

    events: list[RecordedEvent]
    scanned: int
    more: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events are asked for; what is empty lets all through. `requests_only`: none that followed from others."""

    aggregate_id: UUID | None = None
    aggregate_type: str = ""
    actor: str = ""
    requests_only: bool = False

    def lets_through(self, event: RecordedEvent) -> bool:
        """What the log's indices can't say."""
        return (not self.actor or event.actor == self.actor) and (not self.requests_only or _asked_for(event))


def _asked_for(event: RecordedEvent) -> bool:
    """By a user, in a request: a saga's events have their user, and a cause."""
    return parse_uuid(event.actor) is not None and not event.causation_id


async def list_events(log: EventLog, sight: Sight, wanted: Wanted, *, after: int, size: int) -> Listed:
    """The next events that are wanted and that the caller may see, at most `size`."""
    found: list[RecordedEvent] = []
    looked_at = 0
    while looked_at < MAX_SCANNED:
        chunk = await log.list_events(
            aggregate_id=wanted.aggregate_id, aggregate_type=wanted.aggregate_type or None, after=after, limit=_CHUNK
        )
        for event in await sight.visible([event for event in chunk if wanted.lets_through(event)]):
            if len(found) == size:
                return Listed(found, found[-1].position, True)
            found.append(event)
        looked_at += len(chunk)
        if len(chunk) < _CHUNK:
            return Listed(found, chunk[-1].position if chunk else after, False)
        after = chunk[-1].position
    return Listed(found, after, True)


async def from_log(log: EventLog, *, after: int, up_to: int) -> AsyncIterator[list[RecordedEvent]]:
    """All events of a range of positions, in chunks."""
    while after < up_to:
        events = await log.read(after=after, limit=_CHUNK, up_to=up_to)
        if not events:
            return
        yield events
        after = events[-1].position


async def resource_uid(store: Store, principal: Principal, name: str) -> UUID:
    """The uid of a resource, of any kind and deleted or not, that the caller may see events of. Raises NotFound."""
    uid = parse_uuid(last_segment(name))
    rows = await store.of_any_kind([str(uid)]) if uid is not None else []
    named = any("/" not in name or row.resource.name == name for row in rows)
    if uid is not None and named:
        project_id = (await store.projects_of([str(uid)]))[str(uid)]
        if is_admin(principal) or (project_id and project_id == principal.project_id):
            return uid
    raise NotFound(f"no resource {name!r}", remedy="give a resource name or a uid")
