"""EventService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from api_gateway.api.call import Call, Servicer, served
from api_gateway.api.paging import page_of
from api_gateway.events.listing import Sight, from_log, list_events, public_event, resource_uid
from api_gateway.events.timeline import gather, timeline
from api_gateway.views.reader import Reader
from cirra.events.v1 import events_pb2 as pb
from cirra.events.v1 import events_pb2_grpc
from core.errors import FieldViolation, InvalidArgument
from core.eventlog.types import RecordedEvent
from core.ids import claim_aggregate_id


class EventService(Servicer, events_pb2_grpc.EventServiceServicer):
    @served
    async def ListEvents(self, request: pb.ListEventsRequest, call: Call) -> pb.ListEventsResponse:
        page = page_of(request)
        after = _position(page.after, "page_token") if page.after else _not_negative(request.after_position)
        listed = await list_events(
            self.parts.log,
            self._sight(call.reader),
            after=after,
            size=page.size,
            aggregate_id=await self._uid(call.reader, request.resource) if request.resource else None,
            aggregate_type=request.aggregate_type or None,
        )
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


def _not_negative(position: int) -> int:
    if position < 0:
        raise InvalidArgument(FieldViolation("after_position", "give a position of the log, or 0"))
    return position


def _position(text: str, field: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise InvalidArgument(FieldViolation(field, "it is not one that this list gave"))
    return int(text)
