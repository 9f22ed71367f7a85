"""Keeping a part running, with real processes that end on purpose."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from deployment import keeper as keeping
from deployment.keeper import Keeper
from deployment.parts import PartFailed, ServicePart
from deployment.process import Program, Watched, find, runs
from deployment.status import PartState, PartStatus, Phase, Status

READY = """
import json, os, signal, sys
ready_file = os.environ["CIRRA_READY_FILE"]
with open(f"{ready_file}.new", "w") as file:
    json.dump({"pid": os.getpid()}, file)
os.rename(file.name, ready_file)
print("said", flush=True)
signal.pause()
"""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_FIRST_PAUSE_S", 0.01)


def program(folder: Path, code: str, name: str = "part") -> Program:
    script = folder / "cirra-part"
    script.write_text(code)
    ready_file = folder / f"{name}.ready"
    return Program(
        name=name,
        argv=(sys.executable, str(script)),
        environment={"CIRRA_READY_FILE": str(ready_file)},
        ready_file=ready_file,
        pid_file=folder / f"{name}.pid",
        log=folder / f"{name}.log",
    )


@contextlib.asynccontextmanager
async def kept(part: ServicePart, history: list[PartStatus]) -> AsyncIterator[Keeper]:
    keeper = Keeper(part, lambda name, status: history.append(status))
    try:
        await keeper.start()
        running = asyncio.create_task(keeper.run())
        yield keeper
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    finally:
        await keeper.stop()


async def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def child_of(command: list[str], **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.PIPE)


async def test_a_part_that_ends_is_started_again(tmp_path: Path) -> None:
    history: list[PartStatus] = []
    async with kept(ServicePart(program(tmp_path, READY)), history) as keeper:
        first = keeper.status.pid
        assert first is not None and keeper.status.state is PartState.READY
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: keeper.status.state is PartState.READY and keeper.status.pid != first)
        assert keeper.status.restarts == 1
        assert "exit code -9" in keeper.status.last_end
    assert history[-1].state is PartState.STOPPED
    assert not (tmp_path / "part.pid").exists()


async def test_a_part_that_does_not_come_up_tells_why(tmp_path: Path) -> None:
    part = program(tmp_path, "raise SystemExit('no disk')")
    part.log.write_text("of an earlier life\n")
    keeper = Keeper(ServicePart(part), lambda name, status: None)
    with pytest.raises(PartFailed, match="no disk") as failed:
        await keeper.start()
    assert "of an earlier life" not in str(failed.value)
    await keeper.stop()


async def test_a_part_that_is_never_ready_is_ended(tmp_path: Path) -> None:
    part = ServicePart(program(tmp_path, "import signal; signal.pause()"), ready_timeout_s=0.3)
    with pytest.raises(PartFailed, match="not ready"):
        await part.start()
    assert find(tmp_path, ["cirra-part"]) == []


async def test_services_are_found_by_program_and_ready_file_not_by_name(tmp_path: Path) -> None:
    part = ServicePart(program(tmp_path, READY))
    process = await part.start()
    # What a service starts inherits its environment, and is not it.
    child = child_of(["sleep", "60"], CIRRA_READY_FILE=str(tmp_path / "part.ready"))
    try:
        assert [found.pid for found in find(tmp_path, ["cirra-part"])] == [process.pid]
        assert find(tmp_path / "elsewhere", ["cirra-part"]) == []
    finally:
        child.kill()
        child.communicate()
        await part.stop()
    assert find(tmp_path, ["cirra-part"]) == []


def test_a_program_is_known_by_its_first_two_arguments() -> None:
    names = frozenset({"cirra-conductor"})
    assert runs(["/venv/bin/python", "/venv/bin/cirra-conductor"], names)
    assert not runs(["vi", "-R", "/venv/bin/cirra-conductor"], names)


async def test_a_process_that_ignores_sigterm_is_killed() -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); signal.pause()"
    child = child_of([sys.executable, "-c", code])
    assert child.stdout is not None and child.stdout.readline()
    process = Watched(child.pid, child)
    await process.end(grace_s=0.1)
    assert process.exit_code == -signal.SIGKILL
    child.communicate()


def test_status_is_read_as_it_was_written(tmp_path: Path) -> None:
    status = Status(7, Phase.READY, "", {"nats": PartStatus(PartState.READY, 9, 1.5, 2, "ended")})
    status.save(tmp_path / "status.json")
    assert Status.load(tmp_path / "status.json") == status
    assert Status.load(tmp_path / "absent") is None
