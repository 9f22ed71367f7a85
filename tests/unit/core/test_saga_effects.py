"""Which failures of an effect pass, and which of them are counted."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from cirra.operations.v1 import operations_pb2
from core.errors import CirraError, Conflict, Unavailable
from core.saga.definition import StepContext
from core.saga.effects import Notes, with_retries

CONTEXT: StepContext[Any] = StepContext(
    saga_id=uuid4(), params=operations_pb2.Operation(), services=None, step="build", item="", attempt=1, results={}
)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.saga.effects.RETRY_FIRST_S", 0.0)
    monkeypatch.setattr("core.saga.effects.RETRY_LAST_S", 0.0)


class Effect:
    """Raises each of the errors in turn, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)

    async def __call__(self, context: StepContext[Any]) -> str:
        if self._errors:
            raise self._errors.pop(0)
        return "done"


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(111, "Connect call failed"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        asyncpg.CannotConnectNowError("the database system is starting up"),
        Unavailable("placement does not answer"),
    ],
)
async def test_a_part_that_is_away_takes_none_of_the_attempts(error: Exception) -> None:
    notes = Notes()
    assert await with_retries(Effect(*[error] * 10), CONTEXT, notes, attempts=2) == "done"
    assert notes.tries == 11
    assert {trouble.retryable for trouble in notes.troubles} == {True}


async def test_other_passing_failures_are_counted() -> None:
    errors = [Conflict("again"), Unavailable("away"), Conflict("and again")]
    with pytest.raises(Conflict, match="and again"):
        await with_retries(Effect(*errors), CONTEXT, Notes(), attempts=2)
    assert await with_retries(Effect(*errors), CONTEXT, Notes(), attempts=3) == "done"


@pytest.mark.parametrize("error", [CirraError("no"), KeyError("a bug")])
async def test_what_does_not_pass_is_raised_at_once(error: Exception) -> None:
    with pytest.raises(type(error)):
        await with_retries(Effect(error), CONTEXT, Notes())
