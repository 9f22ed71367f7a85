"""A secret in any sensitive field of any message: sealed at rest, and in no rendering of it."""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
import structlog
from google.protobuf import json_format, text_format
from google.protobuf.message import Message
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from api_gateway.events.listing import public_event
from api_gateway.events.timeline import timeline
from api_gateway.views.fold import Fold
from api_gateway.views.registry import VIEWS
from core import logs
from core.sealing import REDACTED, Keyring, redact
from core.settings import ServiceSettings
from core.spans import RecordingProvider
from core.telemetry import _span_as_dict
from tests.unit.api_gateway.history import History
from tests.unit.sensitive.walk import OPEN_WORD, Case, cases

EVERY_CASE = pytest.mark.parametrize("case", cases(), ids=str)
AGGREGATE = UUID(int=7)


class KeyTable:
    """As much of a pool as the keyring needs, in memory: it keeps wrapped keys, and sees nothing else."""

    def __init__(self) -> None:
        self.rows: dict[UUID, bytes] = {}

    async def fetchval(self, query: str, aggregate_id: UUID, *wrapped: bytes) -> bytes | None:
        if query.startswith("INSERT"):
            self.rows.setdefault(aggregate_id, *wrapped)
        return self.rows.get(aggregate_id)

    async def execute(self, query: str, aggregate_id: UUID) -> None:
        assert query.startswith("DELETE")
        self.rows.pop(aggregate_id, None)


def shows(text: str | bytes, canary: bytes) -> bool:
    """Whether a text has the canary: as it is, in hexadecimal, or in base64 at whatever offset."""
    data = text.encode() if isinstance(text, str) else text
    encoded = (base64.b64encode(b"\0" * shift + canary)[4 if shift else 0 : -4] for shift in range(3))
    return any(form in data for form in (canary, canary.hex().encode(), *encoded))


def recorded(case: Case) -> History:
    """An event in a log that was not sealed: redaction must not lean on sealing."""
    history = History()
    history.add(case.descriptor.file.package.split(".")[1], AGGREGATE, case.message())
    return history


def test_every_sensitive_field_of_the_contract_has_a_case() -> None:
    found = {str(case) for case in cases()}
    assert {
        "cirra.compute.v1.InstanceCreated.user_data",
        "cirra.compute.v1.CreateInstanceRequest.instance.user_data",
        "cirra.compute.v1.ListInstancesResponse.instances.user_data",
        "cirra.identity.v1.UserCreated.password_hash",
        "cirra.identity.v1.CreateUserRequest.password",
    } <= found
    assert len({case.canary for case in cases()}) == len(cases())


@EVERY_CASE
def test_the_search_would_find_it(case: Case) -> None:
    message: Any = case.message()
    for text in (message.SerializeToString(), text_format.MessageToString(message), json_format.MessageToJson(message)):
        assert shows(text, case.canary)


@EVERY_CASE
async def test_sealed_at_rest_and_gone_with_its_key(case: Case) -> None:
    table = KeyTable()
    ring = Keyring(table, "log", bytes(32))  # type: ignore[arg-type]
    message = case.message()
    sealed = await ring.seal(AGGREGATE, message)
    assert not shows(sealed.SerializeToString(), case.canary)
    assert await ring.unseal(AGGREGATE, sealed) == message
    kept = b"".join(table.rows.values())
    assert kept and not shows(kept, case.canary)
    await ring.destroy(AGGREGATE)
    opened = await ring.open(AGGREGATE, sealed)
    assert opened.destroyed and not shows(opened.message.SerializeToString(), case.canary)


@EVERY_CASE
def test_redacted(case: Case) -> None:
    redacted: Message = redact(case.message())
    data = redacted.SerializeToString()
    assert REDACTED in data and not shows(data, case.canary)
    for text in (str(redacted), text_format.MessageToString(redacted), json_format.MessageToJson(redacted)):
        assert not shows(text, case.canary)


@EVERY_CASE
def test_listed_told_in_timelines_and_projected(case: Case) -> None:
    history = recorded(case)
    [event] = history.events
    listed = public_event(event)
    assert listed.data.type_url.endswith(case.descriptor.full_name)
    assert not shows(listed.SerializeToString(), case.canary)
    assert not shows(timeline("r", history.events).SerializeToString(), case.canary)
    fold = Fold().apply_all(history.events)
    assert not any(shows(row.resource.SerializeToString(), case.canary) for view in VIEWS for row in fold.rows(view))


@pytest.fixture(params=["json", "console"])
def output(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What a service would log."""
    stream, saved, root = io.StringIO(), structlog.get_config(), logging.getLogger()
    before = root.handlers[:], root.level
    logs.configure("placement", ServiceSettings(log_format=request.param, log_level="debug"), stream=stream)
    yield stream
    root.handlers, root.level = before
    structlog.configure(**saved)


def test_logged(output: io.StringIO) -> None:
    """As a value at any depth, in a name's place, and beside a traceback of a frame that has it."""
    for case in cases():
        message, number = case.message(), str(case)
        log = structlog.get_logger("x")
        log.info(OPEN_WORD, case=number, message_of_it=message, inner={"a": [message, {"b": (message,)}]})
        log.info(OPEN_WORD, **{case.path.rpartition(".")[2]: case.canary})
        logging.getLogger("some.library").warning("%s", number)
        try:
            held = message
            raise ValueError(number) from RuntimeError(type(held).__name__)
        except ValueError:
            log.exception("failed")
    text = output.getvalue()
    assert text.count(OPEN_WORD) == 2 * len(cases()) and "Traceback" in text
    assert [str(case) for case in cases() if shows(text, case.canary)] == []


def test_traced() -> None:
    """Beside an exception that ends a span, in a frame that has it. As an attribute mypy refuses it."""
    exporter, provider = InMemorySpanExporter(), RecordingProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    for case in cases():
        message = case.message()
        with pytest.raises(ValueError, match="broken"), tracer.start_as_current_span(str(case)) as span:
            span.set_attribute("kind", case.descriptor.full_name)
            raise ValueError("broken") from RuntimeError(type(message).__name__)
    text = json.dumps([_span_as_dict(span) for span in exporter.get_finished_spans()], default=str)
    assert text.count("exception.stacktrace") == len(cases())
    assert [str(case) for case in cases() if shows(text, case.canary)] == []


@pytest.mark.parametrize("shift", range(3))
def test_the_search_finds_base64_at_any_offset(shift: int) -> None:
    text = base64.b64encode(b"x" * shift + b"canary-0000-of-it" + uuid4().bytes)
    assert shows(text, b"canary-0000-of-it") and not shows(text, b"canary-0001-of-it")
