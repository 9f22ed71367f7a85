"""A whole cloud under test, as `cirra-deploy up` starts it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from cirra_sdk import AsyncClient
from deployment import clouds, guests
from deployment.config import Config
from deployment.demo.key import new_key
from deployment.demo.tenant import Tenant, make_tenant
from deployment.layout import Layout
from deployment.status import PartState, PartStatus, Status
from tests.e2e.machine import Finished, Machine, processes_of

CELL = "e2e"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cloud:
    """`settings`: of the environment that it was started with, beside the common ones."""

    machine: Machine
    layout: Layout
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def config(self) -> Config:
        return Config.load(self.layout)

    def admin(self) -> AsyncClient:
        return AsyncClient.of(clouds.admin(self.layout))

    async def deploy(self, command: str, *arguments: str) -> Finished:
        """Run `cirra-deploy COMMAND` against this cloud."""
        program = str(Path(sys.executable).parent / "cirra-deploy")
        own = {name: value for name, value in os.environ.items() if not name.startswith("CIRRA_")}
        return await self.machine.run(
            program,
            command,
            "--state-dir",
            str(self.layout.root),
            *arguments,
            env=own | {"CIRRA_ADDRESS": self.machine.address, **self.settings},
        )

    def pid(self, process: str) -> int:
        """By the supervisor's word."""
        pid = self._part(process).pid
        assert pid is not None, f"{process} does not run"
        return pid

    def runs_anew(self, process: str, former_pid: int) -> bool:
        """Has it been started again since it was *former_pid*, and is it ready?"""
        part = self._part(process)
        return part.state is PartState.READY and part.pid != former_pid

    def _part(self, process: str) -> PartStatus:
        status = Status.load(self.layout.status)
        assert status is not None
        return status.parts[process]

    def spans(self) -> list[dict[str, object]]:
        """All that the services traced so far."""
        files = (self.layout.root / "traces").glob("*.jsonl")
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def guest_folder(self, uid: str) -> Path:
        return self.layout.agent_state / "instances" / uid


@asynccontextmanager
async def running_cloud(
    state_dir: Path, settings: Mapping[str, str] | None = None, *, up: Sequence[str] = ()
) -> AsyncIterator[Cloud]:
    """Up within, down and without a trace afterwards. *up*: further arguments of `cirra-deploy up`."""
    machine = await Machine.make()
    try:
        cloud = Cloud(machine, Layout(state_dir), settings or {})
        try:
            started = await cloud.deploy("up", "--cell", CELL, *up)
            assert started.code == 0, started.output
            yield cloud
        finally:
            ended = await cloud.deploy("down")
        assert ended.code == 0, ended.output
        assert processes_of(state_dir) == []
        assert [name for name in await machine.links() if name.startswith(("brq", "tap", "qdhcp"))] == []
        assert "cirra" not in await machine.nft_tables()
    finally:
        await machine.remove()


async def eventually(look: Callable[[], T | None], what: str, timeout_s: float = 120.0) -> T:
    """What *look* finds, once it finds something."""
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:g} s"
        await asyncio.sleep(0.1)
    return found


async def comes_true(look: Callable[[], Awaitable[bool]], what: str, timeout_s: float = 120.0) -> None:
    """Returns once what is asked for is so."""
    deadline = time.monotonic() + timeout_s
    while not await look():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:g} s"
        await asyncio.sleep(0.1)


@asynccontextmanager
async def tiny_tenant(cloud: Cloud, folder: Path) -> AsyncIterator[Tenant]:
    """Who owns the guests of all tests; they are of the tiny image, and the key to them is in the folder."""
    image = await asyncio.to_thread(guests.build, "tiny")
    async with cloud.admin() as admin:
        yield await make_tenant(admin, image, "tiny", new_key(folder / "id", "e2e"), print)
