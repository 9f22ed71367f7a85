"""A gateway, clients of it, and the `cirra` command set to use it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cirra_sdk import AsyncClient
from cirra_sdk.cli.main import app
from tests.unit.sdk.fake_gateway import FakeGateway

Cirra = Callable[..., Result]


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    fake = FakeGateway()
    yield fake
    fake.stop()


@pytest.fixture
async def client(gateway: FakeGateway) -> AsyncIterator[AsyncClient]:
    async with AsyncClient.connect(
        endpoint=gateway.endpoint, user="ann", password="secret", project="demo", retry_for_s=5
    ) as connected:
        yield connected


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str | None]:
    """Of a person who has no settings of their own."""
    return {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": None,
        "XDG_CACHE_HOME": None,
        "CIRRA_CLOUDS_FILE": str(tmp_path / "clouds.yaml"),
        "CIRRA_CLOUD": None,
        "CIRRA_ENDPOINT": None,
        "CIRRA_CA_FILE": None,
        "CIRRA_USER": None,
        "CIRRA_PASSWORD": None,
        "CIRRA_PROJECT": None,
        "CIRRA_TOKEN": None,
        "CIRRA_DEBUG": None,
    }


@pytest.fixture
def cirra(gateway: FakeGateway, environment: dict[str, str | None]) -> Cirra:
    """Runs the command against the gateway as user ann; keyword arguments change the environment."""

    def run(*args: str, stdin: bytes | str | None = None, **changes: Any) -> Result:
        told = {"CIRRA_ENDPOINT": gateway.endpoint, "CIRRA_USER": "ann", "CIRRA_PASSWORD": "secret", **changes}
        return CliRunner().invoke(app, list(args), input=stdin, env={**environment, **told})

    return run


@pytest.fixture
def process_environment(gateway: FakeGateway, environment: dict[str, str | None]) -> dict[str, str]:
    """For the command in a process of its own."""
    told = {name: value for name, value in environment.items() if value is not None}
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("CIRRA_")},
        **told,
        "CIRRA_ENDPOINT": gateway.endpoint,
        "CIRRA_USER": "ann",
        "CIRRA_PASSWORD": "secret",
    }
