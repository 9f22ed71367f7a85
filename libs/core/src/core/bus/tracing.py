"""The trace context in NATS headers: `traceparent` of W3C Trace Context, as in gRPC metadata and in the log."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry import propagate, trace
from opentelemetry.context import Context

TRACEPARENT = "traceparent"
tracer = trace.get_tracer("core.bus")


def inject(headers: dict[str, str]) -> dict[str, str]:
    """Adds the current span's context, when there is one, to `headers`; returns them."""
    if trace.get_current_span().get_span_context().is_valid:
        propagate.inject(headers)
    return headers


def extract(headers: Mapping[str, str]) -> Context:
    """The context that the sender was in, as parent for the receiver's span."""
    return propagate.extract(dict(headers))
