"""Requests, made of the events that they caused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

from cirra_sdk.cli.resource import is_uid
from cirra_sdk.errors import CirraApiError, NotFound

if TYPE_CHECKING:
    from cirra.events.v1.events_pb2 import Event
    from cirra_sdk.client import AsyncClient


@dataclass(frozen=True, slots=True)
class Request:
    """`events`: those that it caused itself, at least one; what followed later is in the timeline of the thing."""

    actor: str
    method: str
    request_id: str
    events: tuple[Event, ...]

    def record(self, names: Mapping[str, str]) -> dict[str, Any]:
        """*names*: of users, by uid."""
        from cirra_sdk.cli.plain import time_text

        first = self.events[0]
        return {
            "time": time_text(first.time),
            "position": first.position,
            "user": names.get(self.actor, ""),
            "actor": self.actor,
            "method": self.method,
            "aggregate_type": first.aggregate_type,
            "aggregate_id": first.aggregate_id,
            "events": [event.type.rpartition(".")[2] for event in self.events],
            "request_id": self.request_id,
            "trace_id": _trace_id(first.traceparent),
        }


def requests(events: Iterable[Event]) -> list[Request]:
    """In order of their first events. An event without a request's id is a request of its own."""
    groups: dict[tuple[str, str], list[Event]] = {}
    for event in events:
        groups.setdefault((event.actor, event.request_id or event.event_id), []).append(event)
    return [_request(group) for group in groups.values()]


def fits(request: Request, method: str) -> bool:
    """*method*: a pattern as the shell has them (fnmatch); small letters or capitals are alike. "": all fit."""
    return not method or fnmatch(request.method.lower(), method.lower())


async def actor_uid(client: AsyncClient, told: str) -> str:
    """What the log knows an actor by: a user's uid, also of one that is deleted; of a part of the cloud its path.

    Raises NotFound.
    """
    if not told or "/" in told.removeprefix("users/"):
        return told
    try:
        return (await client.users.get(told)).uid
    except NotFound:
        if is_uid(told):
            return told
        raise


async def people(client: AsyncClient, actors: set[str]) -> dict[str, str]:
    """Actor → the user's name, where the caller may know it."""

    async def name(actor: str) -> tuple[str, str]:
        try:
            return actor, (await client.users.get(actor)).display_name
        except CirraApiError:
            # No user (a part of the cloud), a deleted one, or not ours to see: its uid is shown then.
            return actor, ""

    return dict(await asyncio.gather(*(name(actor) for actor in sorted(actors) if actor)))


def _request(events: list[Event]) -> Request:
    """The log has requests as Method/id."""
    first = events[0]
    method, slash, request_id = first.request_id.partition("/")
    return Request(first.actor, method if slash else "", request_id if slash else first.request_id, tuple(events))


def _trace_id(traceparent: str) -> str:
    """W3C Trace Context: version-trace-parent-flags."""
    parts = traceparent.split("-")
    return parts[1] if len(parts) == 4 else ""
