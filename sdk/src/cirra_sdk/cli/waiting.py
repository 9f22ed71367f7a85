"""Waiting for operations, and taking a few of many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar

from cirra_sdk.errors import CirraError

if TYPE_CHECKING:
    from cirra.operations.v1.operations_pb2 import Operation
    from cirra_sdk.cli.command import Session

T = TypeVar("T")


async def waited(session: Session, operation: Operation | str, timeout_s: float = 0) -> Operation:
    """The operation once it has succeeded; each step is told on stderr. 0: no end to the waiting.

    Raises OperationFailed, and CirraError when the time is over.
    """
    from cirra_sdk.cli.steps import StepPrinter

    name = operation if isinstance(operation, str) else operation.uid
    how = f"it goes on; follow it: cirra operation watch {name}"
    try:
        with StepPrinter(session.output.err) as printer:
            return await session.client.operations.wait(operation, timeout_s=timeout_s or None, on_change=printer)
    except TimeoutError as error:
        raise CirraError(f"still not done after {timeout_s:g} s", remedy=how) from error
    except asyncio.CancelledError:
        # The person has interrupted the waiting, not the work.
        session.output.note(how)
        raise


async def take(
    source: AsyncGenerator[T, None], limit: int, *, until: Callable[[T], bool] = lambda item: False
) -> list[T]:
    """The first *limit* (0: all), up to the first of which *until* is true."""
    taken: list[T] = []
    async with aclosing(source) as items:
        async for item in items:
            if until(item):
                break
            taken.append(item)
            if len(taken) == limit:
                break
    return taken
