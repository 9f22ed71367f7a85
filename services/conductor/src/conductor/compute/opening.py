"""Steps that begin with a wish: it is in the append that starts the step, or, where that could not be, in its own.

A wish is decided on what this process remembers. Should others have changed that, its append is refused; and a command
for a wish that was overtaken is refused by its host, which looks at generations.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast
from uuid import UUID

from conductor.services import Services
from core.aggregate import Aggregate
from core.repository import again_on_conflict
from core.saga import StepContext

A = TypeVar("A", bound=Aggregate)

Wish = Callable[[StepContext[Any]], Awaitable[tuple[A]]]
"""Answers the aggregate with the wish: nothing is pending where that was wished before."""


async def recalled(ctx: StepContext[Any], aggregate_class: type[A], aggregate_id: UUID) -> A:
    """As the step before has left it, saved or not; of others, what this process remembers (`Repository.recall`)."""
    unsaved = ctx.unsaved.get(aggregate_id)
    if unsaved is not None:
        return cast("A", unsaved)
    services: Services = ctx.services
    found: A = await services.repository.recall(aggregate_class, aggregate_id, at_least=ctx.since)
    return found


async def seen(ctx: StepContext[Any], aggregate_class: type[A], aggregate_id: UUID) -> A:
    """As `recalled`, of what the step does not change (`Repository.glance`)."""
    unsaved = ctx.unsaved.get(aggregate_id)
    if unsaved is not None:
        return cast("A", unsaved)
    services: Services = ctx.services
    found: A = await services.repository.glance(aggregate_class, aggregate_id, at_least=ctx.since)
    return found


async def wished(ctx: StepContext[Any], wish: Wish[A]) -> A:
    """The aggregate with its wish in the log: the step's opening has seen to it, or this does."""
    services: Services = ctx.services
    if ctx.opened:
        return cast("A", ctx.opened.pop())

    async def once() -> A:
        (aggregate,) = await wish(ctx)
        await services.repository.save(aggregate)
        return aggregate

    return await again_on_conflict(once)
