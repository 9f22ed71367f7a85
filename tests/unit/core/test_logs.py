from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from cirra.identity.v1.identity_pb2 import CreateTokenRequest
from core import logs, telemetry
from core.settings import ServiceSettings


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    root = logging.getLogger()
    before, saved = (root.handlers[:], root.level), structlog.get_config()
    logs.configure("placement", ServiceSettings(replica="p-1"), stream=stream)
    yield stream
    root.handlers, root.level = before
    structlog.configure(**saved)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_says_who_speaks_and_in_which_trace(output: io.StringIO) -> None:
    telemetry.configure("placement", ServiceSettings())
    with telemetry.tracer().start_as_current_span("work") as span, telemetry.correlated("corr-1"):
        structlog.get_logger("x").info("claimed", host="h1")
    (line,) = lines(output)
    assert line["message"] == "claimed"
    assert (line["service"], line["replica"], line["level"], line["host"]) == ("placement", "p-1", "info", "h1")
    assert line["correlation_id"] == "corr-1"
    assert line["trace_id"] == f"{span.get_span_context().trace_id:032x}"
    assert line["span_id"] == f"{span.get_span_context().span_id:016x}"


def test_the_standard_library_goes_the_same_way(output: io.StringIO) -> None:
    logging.getLogger("some.library").warning("%s of %s", 1, 2)
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger("x").exception("failed")
    first, second = lines(output)
    assert (first["message"], first["logger"], first["service"]) == ("1 of 2", "some.library", "placement")
    assert "ValueError: broken" in second["exception"]


def test_secrets_are_hidden_at_any_depth(output: io.StringIO) -> None:
    structlog.get_logger("x").info(
        "request",
        password="hunter2",
        headers={"Authorization": "Bearer hunter2", "accept": "*/*"},
        servers=[{"user_data": "hunter2", "name": "web"}],
        page_token="42",
        message_of_user=CreateTokenRequest(user="alice", password="hunter2"),
    )
    assert "hunter2" not in output.getvalue()
    (line,) = lines(output)
    assert line["headers"] == {"Authorization": logs.REDACTED, "accept": "*/*"}
    assert line["servers"] == [{"user_data": logs.REDACTED, "name": "web"}]
    assert line["page_token"] == "42"
    assert line["message_of_user"] == "<cirra.identity.v1.CreateTokenRequest>"


def test_a_line_that_json_has_no_words_for_is_told_all_the_same(output: io.StringIO) -> None:
    structlog.get_logger("x").info("counted", counts={("a", "b"): 1})
    (line,) = lines(output)
    assert (line["message"], line["counts"], line["service"]) == ("counted", "{('a', 'b'): 1}", "placement")


def test_a_line_that_nobody_can_write_is_no_failure_of_who_says_it(output: io.StringIO) -> None:
    output.close()
    structlog.get_logger("x").info("into the void")


def test_what_is_below_the_level_is_not_said(output: io.StringIO) -> None:
    logs.configure("placement", ServiceSettings(log_level="warning"), stream=output)
    structlog.get_logger("x").info("said softly")
    structlog.get_logger("x").warning("said loudly")
    (line,) = lines(output)
    assert (line["message"], line["level"]) == ("said loudly", "warning")
