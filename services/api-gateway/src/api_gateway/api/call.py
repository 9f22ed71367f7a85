"""One public call: who makes it, what it may read, and how new its answer is."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from api_gateway.conductor import Conductor
from api_gateway.events.feed import Feed
from api_gateway.views.reader import Reader, read_model_behind
from api_gateway.views.store import Store
from core.errors import NotFound
from core.eventlog.log import EventLog
from core.rpc.context import require_principal
from core.rpc.metadata import min_position, set_position

if TYPE_CHECKING:
    from cirra.placement.v1.scheduling_pb2_grpc import SchedulingServiceAsyncStub

WAIT_S = 5.0

Request = TypeVar("Request")
Response = TypeVar("Response")


class Waiter(Protocol):
    """A projector, as far as reads need it."""

    def position(self) -> int: ...

    async def wait_for(self, position: int, timeout: float, *, epoch: int = 0) -> bool: ...  # noqa: ASYNC109


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the public services are made of."""

    store: Store
    projector: Waiter
    log: EventLog
    feed: Feed
    conductor: Conductor
    placement: SchedulingServiceAsyncStub

    async def caught_up(self, position: int) -> None:
        """Returns once the read model has the position. Raises Unavailable, or ProjectionHalted, if it does not."""
        if position and not await self.projector.wait_for(position, WAIT_S, epoch=self.feed.epoch):
            raise read_model_behind(position)


@dataclass(slots=True)
class Call:
    """`written`: where the log stood after what the call wrote. `missing`: what it names is not there (any more)."""

    parts: Parts
    reader: Reader
    written: int = field(default=0)
    missing: NotFound | None = field(default=None)

    @property
    def position(self) -> int:
        """What the answer is as of."""
        return max(self.reader.position, self.written)

    async def caught_up(self, position: int) -> None:
        """As the parts', and nothing is read any more that does not hold the position."""
        await self.parts.caught_up(position)
        self.reader.at_least = max(self.reader.at_least, position)


class Servicer:
    """What every public service has."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    async def enter(self, context: Any) -> Call:
        """Begins a call: its caller is known, and what it wants to have been written is in the read model."""
        call = Call(self.parts, Reader(self.parts.store, require_principal()))
        await call.caught_up(await self.parts.feed.within(min_position(context)))
        return call


def served(
    method: Callable[[Any, Request, Call], Awaitable[Response]],
) -> Callable[[Any, Request, Any], Awaitable[Response]]:
    """Makes (servicer, request, call) a unary method: its answer carries the position that it is as of."""

    @functools.wraps(method)
    async def serve(self: Servicer, request: Request, context: Any) -> Response:
        call = await self.enter(context)
        response = await method(self, request, call)
        set_position(context, call.position, self.parts.feed.epoch)
        return response

    return serve
