"""Spans of ours are what the SDK's exporters expect of them."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags

from core.spans import RecordingProvider


@pytest.fixture
def ended() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(ended: InMemorySpanExporter) -> trace.Tracer:
    provider = RecordingProvider(resource=Resource({"service.name": "tests"}))
    provider.add_span_processor(SimpleSpanProcessor(ended))
    return provider.get_tracer("cirra")


def only(ended: InMemorySpanExporter) -> ReadableSpan:
    [span] = ended.get_finished_spans()
    return span


def test_a_span_belongs_to_the_current_one(tracer: trace.Tracer, ended: InMemorySpanExporter) -> None:
    with tracer.start_as_current_span("outer") as outer:
        assert trace.get_current_span() is outer
        with tracer.start_as_current_span("inner", kind=SpanKind.SERVER, attributes={"host": "h1", "count": 2}):
            pass
        assert trace.get_current_span() is outer
    assert not trace.get_current_span().get_span_context().is_valid
    inner, last = ended.get_finished_spans()
    assert (inner.name, last.name) == ("inner", "outer")
    assert inner.parent == outer.get_span_context()
    assert (inner.kind, dict(inner.attributes or {})) == (SpanKind.SERVER, {"host": "h1", "count": 2})
    assert inner.context.trace_id == last.context.trace_id != 0
    assert inner.start_time is not None and inner.end_time is not None
    assert inner.start_time <= inner.end_time


def test_an_error_is_told_and_a_cancellation_is_none(tracer: trace.Tracer, ended: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="no"), tracer.start_as_current_span("work"):
        raise ValueError("no")
    failed = only(ended)
    assert (failed.status.status_code, failed.status.description) == (StatusCode.ERROR, "ValueError: no")
    [event] = failed.events
    told = dict(event.attributes or {})
    assert (event.name, told["exception.type"], told["exception.message"]) == ("exception", "ValueError", "no")
    assert "Traceback" in str(told["exception.stacktrace"])
    ended.clear()
    with pytest.raises(asyncio.CancelledError), tracer.start_as_current_span("work"):
        raise asyncio.CancelledError
    assert only(ended).status.status_code is StatusCode.UNSET


def test_an_error_is_kept_to_itself_where_that_is_asked(tracer: trace.Tracer, ended: InMemorySpanExporter) -> None:
    quiet = tracer.start_as_current_span("work", record_exception=False, set_status_on_exception=False)
    with pytest.raises(ValueError, match="no"), quiet:
        raise ValueError("no")
    assert (only(ended).events, only(ended).status.status_code) == ((), StatusCode.UNSET)


def test_what_is_said_after_the_end_is_ignored(tracer: trace.Tracer, ended: InMemorySpanExporter) -> None:
    span = tracer.start_span("work")
    assert span.is_recording()
    span.end()
    span.end()
    span.set_attribute("late", True)
    span.set_status(StatusCode.ERROR)
    assert not span.is_recording()
    assert (dict(only(ended).attributes or {}), only(ended).status.status_code) == ({}, StatusCode.UNSET)


def test_what_is_no_plain_value_is_left_out(tracer: trace.Tracer, ended: InMemorySpanExporter) -> None:
    span = tracer.start_span("work", attributes={"secret": Resource({}), "names": ["a", "b"]})  # type: ignore[dict-item]
    span.end()
    assert dict(only(ended).attributes or {}) == {"names": ("a", "b")}


def test_a_trace_that_is_not_recorded_stays_so(tracer: trace.Tracer, ended: InMemorySpanExporter) -> None:
    parent = SpanContext(1, 2, True, TraceFlags(TraceFlags.DEFAULT))
    context = trace.set_span_in_context(NonRecordingSpan(parent))
    with tracer.start_as_current_span("work", context) as span:
        assert not span.is_recording()
        assert span.get_span_context().trace_id == 1
    assert ended.get_finished_spans() == ()


def test_they_can_be_sent(tracer: trace.Tracer, ended: InMemorySpanExporter) -> None:
    with tracer.start_as_current_span("work", attributes={"host": "h1"}) as span:
        span.add_event("half-time", {"percent": 50})
    [resource] = encode_spans([only(ended)]).resource_spans
    [scope] = resource.scope_spans
    [sent] = scope.spans
    assert (sent.name, sent.attributes[0].key, sent.events[0].name) == ("work", "host", "half-time")
    assert scope.scope.name == "cirra"
    assert resource.resource.attributes[0].value.string_value == "tests"
