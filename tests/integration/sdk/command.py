"""The `cirra` command in processes of its own, as a tenant's user."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from collections.abc import Awaitable, Callable
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


@pytest.fixture
def cirra(cloud: Cloud, tenant: Tenant, tmp_path: Path) -> Cirra:
    """Runs the command as the tenant's user, each time by another gateway than the last time."""
    home = tmp_path / "home"
    (home / ".config" / "cirra").mkdir(parents=True)
    gateways = itertools.cycle(cloud.plane.gateway_addresses)
    profile = {
        "user": tenant.user.display_name,
        "password": tenant.password,
        "project": tenant.project.display_name,
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CIRRA_", "XDG_"))}

    async def run(*arguments: str | Path) -> Printed:
        at = {"endpoint": f"http://{next(gateways)}"}
        (home / ".config" / "cirra" / "clouds.yaml").write_text(yaml.safe_dump({"clouds": {"here": profile | at}}))
        process = await asyncio.create_subprocess_exec(
            COMMAND,
            "--cloud",
            "here",
            *arguments,
            env={**kept, "HOME": str(home)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        stdout, stderr = await process.communicate()
        assert process.returncode is not None
        return Printed(stdout.decode(), stderr.decode(), process.returncode)

    return run
