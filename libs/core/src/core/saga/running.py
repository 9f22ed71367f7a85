"""A run that a replica is at work on: what is not saved yet, and what a cancel may break off."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from core.aggregate import Aggregate
from core.saga.definition import StepKey, Together

T = TypeVar("T")


class Interrupted(Exception):
    """A cancel request is in the log: reload, and see."""


@dataclass(slots=True)
class Running:
    """A run that this replica is at work on; `effect`: the code of its steps while that runs. `since`: see StepContext.

    `changed`: what is saved with the next events of the run; `settled`: who is told whether it was. `opened`: what the
    steps that have just started began with.
    """

    task: asyncio.Task[None]
    since: int
    changed: tuple[Aggregate, ...] = ()
    opened: dict[StepKey, tuple[Aggregate, ...]] = field(default_factory=dict)
    settled: list[Callable[[bool], None]] = field(default_factory=list)
    effect: asyncio.Task[Any] | None = None

    @property
    def unsaved(self) -> dict[UUID, Aggregate]:
        return {aggregate.id: aggregate for aggregate in self.changed}

    def add(self, together: Together) -> None:
        """To be saved as well."""
        self.changed = tuple((self.unsaved | {it.id: it for it in together.changed}).values())
        self.settled.append(together.settled)

    def settle(self, saved: bool) -> None:
        """What was changed was saved, or is given up."""
        settled, self.settled, self.changed = self.settled, [], ()
        for tell in settled:
            tell(saved)

    async def interruptible(self, effect: Awaitable[T]) -> T:
        """Awaits an effect that a cancel request may break off."""
        task = asyncio.ensure_future(effect)
        self.effect = task
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():  # the engine stops: leave the step where it is
                task.cancel()
                await asyncio.wait({task})
                raise
            raise Interrupted from None
        finally:
            self.effect = None
