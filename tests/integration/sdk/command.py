"""The `cirra` command in processes of its own, as a tenant's user."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.harness.cloud import Cloud, Tenant

COMMAND = Path(sys.executable).with_name("cirra")


@dataclass(frozen=True)
class Printed:
    stdout: str
    stderr: str
    code: int

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


Cirra = Callable[..., Awaitable[Printed]]
Lines = Callable[[], Awaitable[str]]
Watching = Callable[..., AbstractAsyncContextManager[Lines]]


@pytest.fixture
def environment(cloud: Cloud, tenant: Tenant, tmp_path: Path) -> Callable[[], dict[str, str]]:
    """Of the tenant's user; each call leads to another gateway than the last one."""
    home = tmp_path / "home"
    (home / ".config" / "cirra").mkdir(parents=True)
    gateways = itertools.cycle(cloud.plane.gateway_addresses)
    profile = {
        "user": tenant.user.display_name,
        "password": tenant.password,
        "project": tenant.project.display_name,
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CIRRA_", "XDG_"))}

    def another() -> dict[str, str]:
        at = {"endpoint": f"http://{next(gateways)}"}
        (home / ".config" / "cirra" / "clouds.yaml").write_text(yaml.safe_dump({"clouds": {"here": profile | at}}))
        return {**kept, "HOME": str(home)}

    return another


async def _start(environment: dict[str, str], *arguments: str | Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        COMMAND,
        *arguments,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.fixture
def cirra(environment: Callable[[], dict[str, str]]) -> Cirra:
    """Runs the command as the tenant's user. *line*: asks instead what the shell would offer after it."""

    async def run(*arguments: str | Path, line: str = "") -> Printed:
        if line:
            asked = {"_CIRRA_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
            process = await _start({**environment(), **asked, "_TYPER_COMPLETE_ARGS": line})
        else:
            process = await _start(environment(), "--cloud", "here", *arguments)
        stdout, stderr = await process.communicate()
        assert process.returncode is not None
        return Printed(stdout.decode(), stderr.decode(), process.returncode)

    return run


@pytest.fixture
def watching(environment: Callable[[], dict[str, str]]) -> Watching:
    """A command that goes on, as the tenant's user; each call gives its next line. It ends by Ctrl-C."""

    @asynccontextmanager
    async def run(*arguments: str) -> AsyncIterator[Lines]:
        process = await _start(environment(), "--cloud", "here", *arguments)
        assert process.stdout is not None
        stdout = process.stdout

        async def line() -> str:
            async with asyncio.timeout(120):
                return (await stdout.readline()).decode()

        try:
            yield line
            process.send_signal(signal.SIGINT)
            _, stderr = await process.communicate()
            assert (stderr, process.returncode) == (b"interrupted\n", 130)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    return run
