"""Traces: OpenTelemetry spans, where they go, and how a trace and a correlation id travel (W3C Trace Context).

`configure` is called once per process. Without an exporter spans are still made: their trace ids are in the logs, in
the event log's metadata and in message headers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext, TraceFlags

from core.ids import uuid7
from core.settings import ServiceSettings
from core.spans import RecordingProvider

TRACEPARENT = "traceparent"
_EXPORT_DELAY_MS = 1000
_CORRELATION_FORMAT = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_TRACEPARENT_FORMAT = re.compile(
    r"(?P<version>(?!ff)[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)
# One for all: making an encoder takes longer than a span does.
_encode = json.JSONEncoder(default=str).encode
_correlation_id: ContextVar[str] = ContextVar("cirra_correlation_id", default="")


class Telemetry:
    """The running exporters of this process; `shutdown` sends what is still queued."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Export what is queued; False if that took longer than *timeout_s*."""
        return self._provider.force_flush(int(timeout_s * 1000))

    def shutdown(self) -> None:
        self._provider.shutdown()


class JsonFileExporter(SpanExporter):
    """Appends one JSON object per finished span, in one write per batch, so that processes may share a file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered and in append mode: a batch is one write(2), which O_APPEND keeps whole.
        self._file = path.open("ab", buffering=0)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        lines = (_encode(_span_as_dict(span)) + "\n" for span in spans)
        self._file.write("".join(lines).encode())
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self._file.close()


def configure(service: str, settings: ServiceSettings) -> Telemetry:
    """Set the process's tracer provider. A second call adds exporters to the first one's provider."""
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        resource = Resource.create({"service.name": service, "service.instance.id": settings.replica})
        provider = RecordingProvider(resource=resource)
        trace.set_tracer_provider(provider)
    for exporter in _exporters(settings):
        provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_EXPORT_DELAY_MS))
    return Telemetry(provider)


@cache
def tracer() -> trace.Tracer:
    """The tracer of all of Cirra's spans. One that is asked for before `configure` follows what that sets."""
    return trace.get_tracer("cirra")


def traceparent(span: trace.Span | None = None) -> str:
    """The span, else the current one, as a `traceparent` text; "" when there is none."""
    context = (span or trace.get_current_span()).get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def extract(carrier: Mapping[str, str | bytes]) -> Context:
    """The context of the span that *carrier* names; an empty one when it names none, or badly. Source:
    https://www.w3.org/TR/trace-context/#traceparent-header (later versions begin as this one does)."""
    found = _TRACEPARENT_FORMAT.fullmatch(str(carrier.get(TRACEPARENT, "")))
    if found is None or (found["version"] == "00" and found["more"]):
        return Context()
    flags = TraceFlags(int(found["flags"], 16))
    remote = SpanContext(int(found["trace"], 16), int(found["span"], 16), is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(trace.NonRecordingSpan(remote), Context()) if remote.is_valid else Context()


def correlation_id() -> str:
    """What ties together all that one request of a client caused; "" outside of any request."""
    return _correlation_id.get()


@contextmanager
def correlated(value: str) -> Iterator[None]:
    """Within it, `correlation_id()` is *value*."""
    token = _correlation_id.set(value)
    try:
        yield
    finally:
        _correlation_id.reset(token)


def set_correlation_id(value: str) -> None:
    """For the rest of this task, which serves one RPC."""
    _correlation_id.set(value)


def valid_correlation_id(value: str) -> bool:
    """Ids come from clients, and end in logs and headers: letters, digits and `._:-`, at most 128."""
    return _CORRELATION_FORMAT.fullmatch(value) is not None


def new_correlation_id() -> str:
    return str(uuid7())


def _exporters(settings: ServiceSettings) -> Iterator[SpanExporter]:
    if settings.otlp_endpoint:
        # Imported here: it costs 50 ms, and most processes of a test don't export.
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        insecure = not settings.otlp_endpoint.startswith("https://")
        yield OTLPSpanExporter(endpoint=settings.otlp_endpoint, insecure=insecure)
    if settings.trace_file is not None:
        yield JsonFileExporter(settings.trace_file)


def _span_as_dict(span: ReadableSpan) -> dict[str, Any]:
    context = span.get_span_context()
    return {
        "name": span.name,
        "service": span.resource.attributes.get("service.name", ""),
        "instance": span.resource.attributes.get("service.instance.id", ""),
        "trace_id": f"{context.trace_id:032x}" if context else "",
        "span_id": f"{context.span_id:016x}" if context else "",
        "parent_id": f"{span.parent.span_id:016x}" if span.parent else "",
        "kind": span.kind.name,
        # Unix time in nanoseconds.
        "start": span.start_time,
        "end": span.end_time,
        "attributes": dict(span.attributes or {}),
        "events": [{"name": event.name, "attributes": dict(event.attributes or {})} for event in span.events],
        "status": span.status.status_code.name,
        "status_message": span.status.description or "",
    }
