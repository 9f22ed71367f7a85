"""The event log, and what it tells of one resource."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime

from google.protobuf.message import Message

from cirra.events.v1 import events_pb2 as pb
from cirra.events.v1.events_pb2_grpc import EventServiceStub
from cirra_sdk.resources.collection import DEFAULT_PAGE_SIZE, name_of
from cirra_sdk.transport import Transport


class Events:
    """Entries of the log, as far as the token may see them; secrets are redacted."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = EventServiceStub(transport.channel)

    async def list(
        self,
        *,
        resource: Message | str = "",
        aggregate_type: str = "",
        after_position: int = 0,
        actor: str = "",
        project: Message | str = "",
        since: datetime | None = None,
        requests_only: bool = False,
        page_size: int = DEFAULT_PAGE_SIZE,
    ) -> AsyncGenerator[pb.Event, None]:
        """In order of position; pages are fetched as they are needed. *actor*: a user's uid. *since*: aware.

        *requests_only*: what somebody asked for, not what followed from it.
        """
        request = pb.ListEventsRequest(
            page_size=page_size,
            resource=name_of(resource),
            aggregate_type=aggregate_type,
            after_position=after_position,
            actor=actor,
            project=name_of(project),
            requests_only=requests_only,
        )
        if since is not None:
            request.since.FromDatetime(since)
        while True:
            page: pb.ListEventsResponse = await self._transport.unary(self._stub.ListEvents, request)
            for event in page.events:
                yield event
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def watch(self, *, resource: Message | str = "", after_position: int = 0) -> AsyncGenerator[pb.Event, None]:
        """Each event after *after_position* (0: from now on), for ever, without a gap after the first one."""
        request = pb.WatchEventsRequest(resource=name_of(resource), after_position=after_position)
        async with aclosing(
            self._transport.resumed(lambda: self._transport.stream(self._stub.WatchEvents, request))
        ) as events:
            async for event in events:
                request.after_position = event.position
                self._transport.memory.saw(event.position)
                yield event

    async def resource_as_of(
        self, resource: Message | str, *, as_of: datetime | None = None, position: int = 0
    ) -> pb.ResourceAsOf:
        """A resource of any kind (`data`) as it was at a time (aware) or a position; without either, as it is now.

        Raises NotFound before its creation and after its deletion.
        """
        request = pb.GetResourceAsOfRequest(resource=name_of(resource), position=position)
        if as_of is not None:
            request.as_of.FromDatetime(as_of)
        found: pb.ResourceAsOf = await self._transport.unary(self._stub.GetResourceAsOf, request)
        return found


class Timelines:
    """All that happened to a resource, and because of it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = EventServiceStub(transport.channel)

    async def get(self, resource: Message | str) -> pb.Timeline:
        """In order, steps with their durations. Raises NotFound."""
        request = pb.GetTimelineRequest(resource=name_of(resource))
        found: pb.Timeline = await self._transport.unary(self._stub.GetTimeline, request)
        return found
