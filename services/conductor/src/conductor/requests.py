"""Commands: from a request to events in the log, and an answer that stays the same when it is asked for again.

    class ImageCommands(Commands, commands_pb2_grpc.ImageCommandsServicer):
        @command(Image)
        async def DeleteImage(self, request: pb.DeleteImageRequest, principal: Principal) -> Done:
            image, saved = await self.repository.change(Image, uid("name", request.name), Image.delete)
            return Done(image, saved)

A command saves once. The append that answers a request claims its `request_id` (`core.repository`): of two calls with
one id, at the same time or later, one acts and both get the same answer (AIP-155).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Protocol, TypeVar
from uuid import UUID

from cirra.conductor.v1.commands_pb2 import Accepted
from cirra.identity.v1.identity_pb2 import Principal
from conductor.violations import explained
from core.aggregate import Aggregate
from core.context import acting
from core.errors import CirraError, FieldViolation, InvalidArgument, NotFound
from core.eventlog.types import RecordedEvent
from core.repository import REQUESTS, Repository, Saved, parse_request_owner, request_key
from core.rpc.context import require_principal

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_PAGE = 100


class Resource(Protocol):
    """An aggregate that has a public name."""

    @property
    def id(self) -> UUID: ...
    @property
    def resource_name(self) -> str: ...


A = TypeVar("A", bound=Aggregate)
R = TypeVar("R")
C = TypeVar("C", bound="Commands")


@dataclass(frozen=True, slots=True)
class Done:
    """What a command did: to which resource, where the log stands, and the sagas that it started, if any.

    `operation_id`: of the first; `operation_ids`: of all, where there are several.
    """

    resource: Resource
    saved: Saved
    operation_id: str = ""
    operation_ids: Sequence[str] = ()
    # Of a part of the resource, when the command is about that: its uid and its name.
    part: tuple[str, str] | None = None

    @property
    def uid(self) -> str:
        return self.part[0] if self.part else str(self.resource.id)

    @property
    def name(self) -> str:
        return self.part[1] if self.part else self.resource.resource_name

    def accepted(self, position: int) -> Accepted:
        """The answer. `position`: up to which the log has what was done."""
        operation_ids = self.operation_ids or [self.operation_id] if self.operation_id else []
        return Accepted(
            uid=self.uid,
            name=self.name,
            position=position,
            operation_id=self.operation_id,
            operation_ids=operation_ids,
        )


PartOf = Callable[[Any, RecordedEvent], tuple[str, str]]
Act = Callable[[Principal], Awaitable[Done]]


class Requests:
    """Runs commands in the name of their caller, each request once."""

    def __init__(self, repository: Repository, principal: Callable[[], Principal] = require_principal) -> None:
        self._repository = repository
        self._principal = principal

    @property
    def principal(self) -> Principal:
        """Who calls. Raises Unauthenticated for nobody."""
        return self._principal()

    async def once(
        self,
        method: str,
        request_id: str,
        kind: type[Aggregate],
        act: Act,
        part: PartOf | None = None,
        *,
        makes_new: bool = False,
    ) -> Accepted:
        """Acts and answers, or answers again as before.

        `kind`: of the resource, which is the aggregate of the first event saved. `part`: tells the uid and name of
        the part that the command was about, from that event. `makes_new`: it does nothing but to append what has new
        ids: that is refused where it was done before, and only then is it looked for.
        """
        principal = self.principal
        if not request_id:
            with acting(actor=principal.user_id):
                return await self._accept(act, principal)
        if not _REQUEST_ID.fullmatch(request_id):
            raise InvalidArgument(
                FieldViolation("request_id", "give at most 128 letters, digits or any of . _ : -, such as a UUID")
            )
        request = f"{method}/{request_id}"
        with acting(actor=principal.user_id, request_id=request):
            earlier = None if makes_new else await self._earlier(principal, request, kind, part)
            if earlier is not None:
                return earlier
            try:
                return await self._accept(act, principal)
            except CirraError:
                # Refused because the same request was served, before or meanwhile?
                earlier = await self._earlier(principal, request, kind, part)
                if earlier is None:
                    raise
                return earlier

    async def _accept(self, act: Act, principal: Principal) -> Accepted:
        try:
            done = await act(principal)
        except CirraError as error:
            understandable = explained(error)
            if understandable is error:
                raise
            raise understandable from error
        # Nothing had to be changed: it is so since some position up to here.
        position = done.saved.position or (await self._repository.log.head()).position
        return done.accepted(position)

    async def _earlier(
        self, principal: Principal, request: str, kind: type[Aggregate], part: PartOf | None
    ) -> Accepted | None:
        """The answer that the request got before, from the log."""
        owner = await self._repository.log.unique_owner(REQUESTS, request_key(principal.user_id, request))
        if owner is None:
            return None
        aggregate_id, version = parse_request_owner(owner)
        resource: Any = await self._repository.load(kind, aggregate_id)
        [first] = await self._read_one(aggregate_id, version)
        events = await self._append_of(first)
        sagas = list(dict.fromkeys(str(event.aggregate_id) for event in events if event.aggregate_type == "saga"))
        done = Done(
            resource,
            Saved(events[-1].position, first.recorded_at),
            sagas[0] if sagas else "",
            sagas,
            part(resource, first) if part else None,
        )
        return done.accepted(done.saved.position)

    async def _read_one(self, aggregate_id: UUID, version: int) -> Sequence[RecordedEvent]:
        return (await self._repository.log.read_aggregate(aggregate_id, after_version=version - 1))[:1]

    async def _append_of(self, first: RecordedEvent) -> list[RecordedEvent]:
        """The events of the append that begins with `first`: they follow one another, in the name of one request."""
        events: list[RecordedEvent] = []
        while True:
            after = events[-1].position if events else first.position - 1
            page = await self._repository.log.read(after=after, limit=_PAGE)
            same = list(takewhile(lambda event: _request_of(event) == _request_of(first), page))
            events.extend(same)
            if len(same) < _PAGE:
                return events


def _request_of(event: RecordedEvent) -> tuple[str, str, str]:
    # What a saga appends later in the same request's name has a cause.
    return event.actor, event.request_id, event.causation_id


class Commands:
    """What every servicer of commands has."""

    def __init__(self, repository: Repository, requests: Requests | None = None) -> None:
        self.repository = repository
        self.requests = requests or Requests(repository)


def command(
    kind: type[Aggregate], *, part: PartOf | None = None, makes_new: bool = False
) -> Callable[[Callable[[C, R, Principal], Awaitable[Done]]], Callable[[C, R, Any], Awaitable[Accepted]]]:
    """Makes a method (request, principal) → `Done` one of a servicer: idempotent by request id, its errors clear.

    The arguments: see `Requests.once`.
    """

    def decorate(
        method: Callable[[C, R, Principal], Awaitable[Done]],
    ) -> Callable[[C, R, Any], Awaitable[Accepted]]:
        @functools.wraps(method)
        async def serve(self: C, request: R, context: Any) -> Accepted:
            request_id = getattr(request, "request_id", "")
            return await self.requests.once(
                method.__name__,
                request_id,
                kind,
                lambda principal: method(self, request, principal),
                part,
                makes_new=makes_new,
            )

        return serve

    return decorate


async def load_live(repository: Repository, kind: type[A], aggregate_id: UUID) -> A:
    """The aggregate, unless it was deleted. Raises NotFound."""
    return require_live(await repository.load(kind, aggregate_id))


async def load_live_each(repository: Repository, *wanted: tuple[type[Aggregate], UUID]) -> list[Any]:
    """As `load_live`, of several by one read: of each class and id, in their order."""
    return [require_live(aggregate) for aggregate in await repository.load_each(*wanted)]


def require_live(aggregate: A) -> A:
    """Raises NotFound for what was deleted."""
    if getattr(aggregate, "deleted", False):
        raise NotFound(f"no {aggregate.kind} {aggregate.id}: it was deleted", remedy="name another one")
    return aggregate
