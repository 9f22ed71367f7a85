"""Who asks, and because of what: context variables that every append carries into the log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar

from core.eventlog.types import Context
from core.telemetry import correlated, correlation_id, traceparent

_actor: ContextVar[str] = ContextVar("cirra_actor", default="")
_request_id: ContextVar[str] = ContextVar("cirra_request_id", default="")
_causation_id: ContextVar[str] = ContextVar("cirra_causation_id", default="")


def current_context() -> Context:
    """The context of an append made here and now."""
    return Context(
        actor=_actor.get(),
        request_id=_request_id.get(),
        causation_id=_causation_id.get(),
        correlation_id=correlation_id(),
        traceparent=traceparent(),
    )


@contextmanager
def beside_the_request() -> Iterator[None]:
    """Within it, appends answer no request: what is done on the way to the append that does."""
    token = _request_id.set("")
    try:
        yield
    finally:
        _request_id.reset(token)


@contextmanager
def acting(*, actor: str = "", request_id: str = "", causation: str = "", correlation: str = "") -> Iterator[None]:
    """Within it, appends name what is given; the rest stays as it is.

    `actor`: a user's uid, or "system/<part>". `causation`: the id of the event or saga that led to it.
    """
    with ExitStack() as stack:
        for variable, value in ((_actor, actor), (_request_id, request_id), (_causation_id, causation)):
            if value:
                stack.callback(variable.reset, variable.set(value))
        if correlation:
            stack.enter_context(correlated(correlation))
        yield
