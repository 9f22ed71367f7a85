"""Spans of OpenTelemetry, made for a tenth of what its SDK takes for one.

The SDK bounds and cleans attributes, events and links of each span, asks a sampler, and takes locks: 50 µs, some sixty
times in the creation of an instance. Here a span is a record: its few attributes are our own, who began its trace has
decided whether it is recorded, and one task ends it. All else is the SDK's: resource, processors, exporters, readers.
https://opentelemetry.io/docs/specs/otel/trace/api/
"""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Mapping
from contextvars import Token
from types import TracebackType
from typing import Any, cast

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

_PLAIN = (str, bool, int, float)
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_UNSET = Status(StatusCode.UNSET)


class RecordedSpan(ReadableSpan, trace.Span):
    """A span that is recorded; processors get it when it ends. What is said of it after that is ignored."""

    def __init__(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: Mapping[str, Any] | None,
        start_time: int | None,
        tracer: RecordingTracer,
    ) -> None:
        self._name = name
        self._context = context
        self._parent = parent
        self._kind = kind
        self._attributes: Any = {}
        self._events: Any = []
        self._links: Any = ()
        self._status = _UNSET
        self._resource = tracer.resource
        self._instrumentation_info = None
        self._instrumentation_scope = tracer.scope
        self._processor = tracer.processor
        self._end_time: int | None = None
        if attributes:
            self.set_attributes(attributes)
        self._start_time = time.time_ns() if start_time is None else start_time

    def get_span_context(self) -> SpanContext:
        assert self._context is not None
        return self._context

    def is_recording(self) -> bool:
        return self._end_time is None

    def set_attribute(self, key: str, value: Any) -> None:
        """Text, a number or a truth; a sequence of those. Others are left out: they might show what they must not."""
        if self._end_time is not None:
            return
        if isinstance(value, _PLAIN):
            self._attributes[key] = value
        elif isinstance(value, list | tuple) and all(isinstance(each, _PLAIN) for each in value):
            self._attributes[key] = tuple(value)

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        if self._end_time is None:
            self._events.append(Event(name, attributes, timestamp))

    def update_name(self, name: str) -> None:
        self._name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        if self._end_time is None:
            self._status = status if isinstance(status, Status) else Status(status, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Any = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """https://opentelemetry.io/docs/specs/semconv/exceptions/exceptions-spans/"""
        kind = type(exception)
        told = {
            "exception.type": f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."),
            "exception.message": str(exception),
            # Without local variables: they hold the data.
            "exception.stacktrace": "".join(traceback.format_exception(exception)),
            "exception.escaped": str(escaped),
        }
        self.add_event("exception", {**told, **(attributes or {})}, timestamp)

    def end(self, end_time: int | None = None) -> None:
        if self._end_time is None:
            self._end_time = time.time_ns() if end_time is None else end_time
            self._processor.on_end(self)


class _Current:
    """A span that is the current one within the block."""

    __slots__ = ("_end", "_record_exception", "_set_status", "_span", "_token")

    def __init__(self, span: trace.Span, *, record_exception: bool, set_status: bool, end: bool) -> None:
        self._span = span
        self._record_exception = record_exception
        self._set_status = set_status
        self._end = end
        self._token: Token[Context] | None = None

    def __enter__(self) -> trace.Span:
        self._token = contexts.attach(trace.set_span_in_context(self._span))
        return self._span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_back: TracebackType | None
    ) -> None:
        assert self._token is not None
        contexts.detach(self._token)
        if isinstance(error, Exception):
            if self._record_exception:
                self._span.record_exception(error)
            if self._set_status:
                self._span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
        if self._end:
            self._span.end()


class RecordingTracer(trace.Tracer):
    """Records what begins a trace, and what belongs to one that is recorded."""

    def __init__(self, resource: Resource, scope: InstrumentationScope, processor: SpanProcessor) -> None:
        self.resource = resource
        self.scope = scope
        self.processor = processor

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Any = None,
        links: Any = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> trace.Span:
        """Links, and what becomes of exceptions outside of `start_as_current_span`, are nobody's concern here."""
        parent: SpanContext | None = trace.get_current_span(context).get_span_context()
        assert parent is not None
        flags, state, trace_id = _SAMPLED, None, parent.trace_id
        if parent.is_valid:
            flags, state = parent.trace_flags, parent.trace_state
        else:
            parent, trace_id = None, random.getrandbits(128) or 1
        its_own = SpanContext(trace_id, random.getrandbits(64) or 1, False, flags, state)
        if not flags.sampled:
            return trace.NonRecordingSpan(its_own)
        return RecordedSpan(name, its_own, parent, kind, attributes, start_time, self)

    def start_as_current_span(  # type: ignore[override]  # a context manager, and no decorator
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Any = None,
        links: Any = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> _Current:
        return _Current(
            self.start_span(name, context, kind, attributes, links, start_time),
            record_exception=record_exception,
            set_status=set_status_on_exception,
            end=end_on_exit,
        )


class RecordingProvider(TracerProvider):
    """The SDK's provider, with tracers of ours."""

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Any = None,
    ) -> trace.Tracer:
        scope = InstrumentationScope(instrumenting_module_name, instrumenting_library_version, schema_url, attributes)
        return RecordingTracer(self.resource, scope, cast(SpanProcessor, self._active_span_processor))
