"""EventService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC
from typing import Any

from api_gateway.api.call import Call, Servicer, served
from api_gateway.api.paging import page_of
from api_gateway.api.past import resource_as_of
from api_gateway.events.listing import Sight, Wanted, from_log, list_events, public_event, resource_uid
from api_gateway.events.timeline import gather, timeline
from api_gateway.views.identity import PROJECT
from api_gateway.views.reader import Reader
from cirra.events.v1 import events_pb2 as pb
from cirra.events.v1 import events_pb2_grpc
from core.errors import FieldViolation, InvalidArgument, NotFound
from core.eventlog.types import RecordedEvent
from core.ids import claim_aggregate_id


class EventService(Servicer, events_pb2_grpc.EventServiceServicer):
    @served
    async def ListEvents(self, request: pb.ListEventsRequest, call: Call) -> pb.ListEventsResponse:
        page = page_of(request)
        after = _position(page.after, "page_token") if page.after else await self._begin(request)
        wanted = Wanted(
            aggregate_id=await self._uid(call.reader, request.resource) if request.resource else None,
            aggregate_type=request.aggregate_type,
            actor=request.actor,
            requests_only=request.requests_only,
        )
        sight = Sight(self.parts.store, call.reader.principal, await _project_id(call.reader, request.project))
        listed = await list_events(self.parts.log, sight, wanted, after=after, size=page.size)
        response = pb.ListEventsResponse(events=[public_event(event) for event in listed.events])
        if listed.more:
            response.next_page_token = page.token(str(listed.scanned))
        call.written = max(call.written, listed.scanned)
        return response

    async def WatchEvents(self, request: pb.WatchEventsRequest, context: Any) -> AsyncIterator[pb.Event]:
        """What is in the log already first, then what happens."""
        call = await self.enter(context)
        wanted = await self._uid(call.reader, request.resource) if request.resource else None
        sight = self._sight(call.reader)
        with self.parts.feed.subscribe() as subscription:
            if _not_negative(request.after_position):
                async for events in from_log(self.parts.log, after=request.after_position, up_to=subscription.after):
                    await self.parts.caught_up(events[-1].position)
                    for event in await sight.visible([it for it in events if wanted in (None, it.aggregate_id)]):
                        yield public_event(event)
            async for event in subscription:
                if event.position > request.after_position and await self._shown(sight, event, wanted):
                    yield public_event(event)

    @served
    async def GetTimeline(self, request: pb.GetTimelineRequest, call: Call) -> pb.Timeline:
        uid = await self._uid(call.reader, request.resource)
        events = await gather(self.parts.log, self.parts.store, uid)
        # The claim of a visible instance is shown with it: it has no view of its own.
        claims = [event for event in events if event.aggregate_id == claim_aggregate_id(uid)]
        visible = await self._sight(call.reader).visible([event for event in events if event not in claims])
        shown = sorted([*visible, *claims], key=lambda event: event.position)
        return timeline(request.resource, shown)

    @served
    async def GetResourceAsOf(self, request: pb.GetResourceAsOfRequest, call: Call) -> pb.ResourceAsOf:
        uid = await self._uid(call.reader, request.resource)
        position = await self._as_of(request)
        shown = pb.ResourceAsOf(resource=request.resource, position=position)
        shown.data.Pack(await resource_as_of(call, str(uid), position))
        return shown

    async def _as_of(self, request: pb.GetResourceAsOfRequest) -> int:
        if request.HasField("as_of") and request.position:
            raise InvalidArgument(FieldViolation("position", "give a time or a position, one of them"))
        head = (await self.parts.log.head()).position
        if request.HasField("as_of"):
            return await self.parts.log.position_at(request.as_of.ToDatetime(UTC))
        if _not_negative(request.position, "position") > head:
            raise InvalidArgument(FieldViolation("position", f"the log ends at {head}: give one up to that"))
        return request.position or head

    async def _begin(self, request: pb.ListEventsRequest) -> int:
        """The position after which a listing begins."""
        after = _not_negative(request.after_position)
        if request.HasField("since"):
            after = max(after, await self.parts.log.position_at(request.since.ToDatetime(UTC)))
        return after

    def _sight(self, reader: Reader) -> Sight:
        return Sight(self.parts.store, reader.principal)

    async def _uid(self, reader: Reader, name: str) -> Any:
        return await resource_uid(self.parts.store, reader.principal, name)

    async def _shown(self, sight: Sight, event: RecordedEvent, wanted: Any) -> bool:
        if wanted not in (None, event.aggregate_id):
            return False
        # Whose a new resource is, the read model knows once it has its first event.
        await self.parts.caught_up(event.position)
        return bool(await sight.visible([event]))


async def _project_id(reader: Reader, name: str) -> str:
    """Of the project whose events are asked for. Raises NotFound for one that the caller may not see."""
    if not name:
        return ""
    project = await reader.find(PROJECT, name, field="project", deleted_too=True)
    if not reader.is_admin and project.uid != reader.principal.project_id:
        raise NotFound(f"no project {name!r}", remedy="log in to that project, or ask an administrator")
    return project.uid


def _not_negative(position: int, field: str = "after_position") -> int:
    if position < 0:
        raise InvalidArgument(FieldViolation(field, "give a position of the log, or 0"))
    return position


def _position(text: str, field: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise InvalidArgument(FieldViolation(field, "it is not one that this list gave"))
    return int(text)
