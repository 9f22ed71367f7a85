from __future__ import annotations

import json
from pathlib import Path

import pytest
from opentelemetry import trace

from core import telemetry
from core.settings import ServiceSettings


def test_spans_go_to_the_file_with_their_parents(tmp_path: Path) -> None:
    path = tmp_path / "traces" / "spans.jsonl"
    running = telemetry.configure("conductor", ServiceSettings(trace_file=path))
    with pytest.raises(ValueError, match="no"), telemetry.tracer().start_as_current_span("outer"):
        with telemetry.tracer().start_as_current_span("inner", attributes={"host": "h1"}):
            assert trace.get_current_span().is_recording()
        raise ValueError("no")
    assert running.flush()
    inner, outer = [json.loads(line) for line in path.read_text().splitlines()]
    assert (inner["name"], outer["name"]) == ("inner", "outer")
    assert inner["trace_id"] == outer["trace_id"]
    assert inner["parent_id"] == outer["span_id"]
    assert outer["parent_id"] == ""
    assert inner["attributes"] == {"host": "h1"}
    assert inner["start"] <= inner["end"]
    assert (inner["status"], outer["status"]) == ("UNSET", "ERROR")


def test_a_trace_goes_on_from_a_traceparent() -> None:
    telemetry.configure("conductor", ServiceSettings())
    assert telemetry.traceparent() == ""
    with telemetry.tracer().start_as_current_span("here") as span:
        carrier = {"traceparent": telemetry.traceparent()}
    there = telemetry.tracer().start_span("there", context=telemetry.extract(carrier))
    assert there.get_span_context().trace_id == span.get_span_context().trace_id
    alone = telemetry.tracer().start_span("alone", context=telemetry.extract({"traceparent": "nonsense"}))
    assert alone.get_span_context().trace_id != span.get_span_context().trace_id


TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"01-{TRACE}-{SPAN}-01-what-a-later-version-adds", True),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}", None),
        ("", None),
    ],
)
def test_a_traceparent_is_read_as_the_standard_has_it(text: str, sampled: bool | None) -> None:
    """https://www.w3.org/TR/trace-context/#traceparent-header-field-values"""
    found = trace.get_current_span(telemetry.extract({"traceparent": text})).get_span_context()
    if sampled is None:
        assert not found.is_valid
    else:
        assert (f"{found.trace_id:032x}", f"{found.span_id:016x}") == (TRACE, SPAN)
        assert found.trace_flags.sampled is sampled
        assert found.is_remote


def test_a_correlation_id_holds_within_its_block() -> None:
    with telemetry.correlated("a"):
        with telemetry.correlated("b"):
            assert telemetry.correlation_id() == "b"
        assert telemetry.correlation_id() == "a"
    assert telemetry.correlation_id() == ""


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("corr-1", True),
        ("01a1ff96-217b-7388-9526-4ded6eaa56fe", True),
        ("", False),
        ("a b", False),
        ("a\nb", False),
        ("x" * 129, False),
    ],
)
def test_a_correlation_id_is_fit_for_headers_and_logs(text: str, valid: bool) -> None:
    assert telemetry.valid_correlation_id(text) is valid
