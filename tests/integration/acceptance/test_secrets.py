"""No secret is anywhere in the clear: in logs, traces, the API's answers, the database, the messages, the files."""

from __future__ import annotations

import asyncio
import base64
import io
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import structlog
from google.protobuf import text_format
from nats.aio.msg import Msg
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cirra.agent.v1 import desired_pb2 as agent
from cirra_sdk.errors import CirraApiError
from core import logs
from core.pki.identity import Identity
from core.settings import ServiceSettings
from core.testing.servers import Cell
from tests.harness.barrier import dealt_with
from tests.harness.cloud import Cloud, Tenant
from tests.harness.leftovers import every_row
from tests.harness.planted import planted
from tests.harness.replicas import ADMIN_PASSWORD

pytestmark = pytest.mark.asyncio(loop_scope="module")

USER_DATA = planted("#!/bin/sh\necho user-data-of-the-story | passwd --stdin root\n")
WRONG_PASSWORD = planted("nearly-the-password-of-the-story")
# How every hash of a password begins, in the encoding that argon2 gives it.
HASH = "$argon2"


@dataclass(frozen=True, slots=True)
class Story:
    """What has happened, with all secrets in it. `open_word`: no secret, and in every place that is searched."""

    tenant: Tenant
    secrets: dict[str, str]
    open_word: str


@pytest.fixture(scope="module")
def log_lines() -> Iterator[io.StringIO]:
    """Every line that is logged, also those for debugging."""
    stream, saved, root = io.StringIO(), structlog.get_config(), logging.getLogger()
    level = root.level
    logs.configure("acceptance", ServiceSettings(log_level="debug"), stream=stream)
    [handler] = root.handlers
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)
    structlog.configure(**saved)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def messages(module_cell: Cell) -> list[Msg]:
    """Every message of the cell: events, commands, reports, heartbeats."""
    found: list[Msg] = []

    async def keep(message: Msg) -> None:
        found.append(message)

    connection = await module_cell.connect(Identity.service("test"))
    await connection.subscribe(f"{module_cell.name}.>", cb=keep)
    await dealt_with(connection)
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def spans(whole_cloud: Cloud) -> AsyncIterator[InMemorySpanExporter]:
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield exporter
    exporter.shutdown()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def story(log_lines: io.StringIO, messages: list[Msg], whole_cloud: Cloud, spans: InMemorySpanExporter) -> Story:
    """A user comes, mistypes the password, builds one guest and fails with another; an operator adds a host."""
    cloud = whole_cloud
    tenant = await cloud.tenant({"vcpus": -1})
    parts = await tenant.prepare()
    for password in (WRONG_PASSWORD, tenant.password[:-1]):
        with pytest.raises(CirraApiError):
            await cloud.admin.tokens.create(tenant.user.display_name, password)
    await tenant.boot(parts, "well", user_data=USER_DATA, metadata={"word": "open-word-of-the-story"})
    for host in cloud.hosts:
        host.failing["domain"] = agent.Failure(reason="DISK_FULL", message="no space", reschedule=True)
    await tenant.ended(await tenant.create(parts, "badly", user_data=USER_DATA))
    cloud.reset_hosts()
    with pytest.raises(CirraApiError):
        await tenant.create(parts, "refused", user_data=USER_DATA, image="nothing")
    enrolment = await cloud.admin.enrolment_tokens.create("host-9")
    token = (await cloud.admin.tokens.create(tenant.user.display_name, tenant.password)).access_token
    await tenant.client.tokens.revoke(token)
    secrets = {
        "user data": USER_DATA,
        "password": tenant.password,
        "mistyped password": WRONG_PASSWORD,
        "administrator's password": ADMIN_PASSWORD,
        "password hash": HASH,
        "enrolment token": enrolment.token,
        "access token": await tenant.client.access_token(),
        "revoked access token": token,
    }
    return Story(tenant, secrets, "open-word-of-the-story")


def _forms(secret: str) -> list[str]:
    """A secret as a log, a row, a message may show it: itself, escaped, hexadecimal, base64."""
    data = secret.encode()
    encoded = base64.b64encode(data).decode().rstrip("=")
    return [secret, secret.encode("unicode_escape").decode(), data.hex(), encoded[:-2]]


def _found(story: Story, places: dict[str, str]) -> list[str]:
    """ "secret in place", for each that is in the clear."""
    return [
        f"{name} in {place}"
        for name, secret in story.secrets.items()
        for place, text in places.items()
        if any(form in text for form in _forms(secret))
    ]


def _has_open_word(story: Story, text: str) -> bool:
    """That the search would have found a secret."""
    return any(form in text for form in _forms(story.open_word))


async def test_the_database(story: Story) -> None:
    rows = {table: "\n".join(found) for table, found in (await every_row(story.tenant.cloud.cell)).items()}
    name = story.tenant.cloud.cell.name
    assert {f"{name}_log.events", f"{name}_gateway.resources", f"{name}_metadata.instances"} <= rows.keys()
    for table in ("log.events", "gateway.resources"):
        assert _has_open_word(story, rows[f"{name}_{table}"])
    assert _found(story, rows) == []


async def test_the_logs(story: Story, log_lines: io.StringIO) -> None:
    text = log_lines.getvalue()
    assert "step failed" in text and "host-1: no space" in text
    assert _found(story, {"the log": text}) == []


async def test_the_traces(story: Story, spans: InMemorySpanExporter) -> None:
    finished = [span.to_json() for span in spans.get_finished_spans()]
    assert any("cirra.compute.v1.ComputeService/CreateInstance" in span for span in finished)
    assert _found(story, {"a span": "\n".join(finished)}) == []


async def test_the_messages(story: Story, messages: list[Msg]) -> None:
    text = "\n".join(f"{message.data.hex()} {message.headers}" for message in messages)
    assert {message.subject.split(".")[1] for message in messages} >= {"events", "commands", "reports"}
    assert _has_open_word(story, text)
    assert _found(story, {"a message": text}) == []


async def test_the_api(story: Story) -> None:
    """Also for an administrator."""
    tenant = story.tenant
    answers: list[Any] = []
    for client in (tenant.client, tenant.cloud.admin):
        tenant.catch_up()
        answers += [event async for event in client.events.list()]
        answers += [each async for each in client.operations.list()]
        answers += [each async for each in client.users.list()]
        async for instance in client.instances.list():
            answers += [instance, await client.timeline.get(instance)]
            answers.append(await client.instances.get(instance, as_of=instance.update_time.ToDatetime()))
    text = "\n".join(text_format.MessageToString(answer, as_utf8=True) for answer in answers)
    assert _has_open_word(story, text)
    assert "user_data" in text, "that there is one is told"
    assert _found(story, {"an answer": text + "".join(answer.SerializeToString().hex() for answer in answers)}) == []


async def test_the_files(story: Story) -> None:
    """Of the cloud: its images, its keys, what its services have told when they were ready."""
    plane = story.tenant.cloud.plane
    texts = await asyncio.to_thread(_texts, plane.folder)
    assert texts
    told = plane.folder / "password"
    assert _found(story, {name: text for name, text in texts.items() if Path(name) != told}) == []


def _texts(folder: Path) -> dict[str, str]:
    return {str(path): path.read_bytes().hex() for path in folder.rglob("*") if path.is_file()}
