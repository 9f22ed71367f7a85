"""The life of a process: real processes, real signals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

PATIENCE_S = 60.0
Start = Callable[..., Awaitable["Service"]]

PROGRAM = """
import asyncio, sys, time
from core.service import Lifetime, run_service
from core.settings import ServiceSettings

def say(text):
    print(text, flush=True)

async def fail_on_request():
    stdin = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    if await stdin.readline() == b"die\\n":
        raise RuntimeError("a part is broken")

async def work_for_ever():
    try:
        await asyncio.Event().wait()
    finally:
        say("work stopped")

async def bootstrap(lifetime: Lifetime, settings: ServiceSettings) -> None:
    if settings.cell == "broken":
        raise ValueError("cannot be wired")
    if settings.cell in ("waiting", "deaf"):
        say("waiting")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if settings.cell == "waiting":
                raise
            await asyncio.Event().wait()
    if settings.cell == "busy":
        asyncio.get_running_loop().run_in_executor(None, time.sleep, 600)
    async def close() -> None:
        say("connection closed")
    async def hang() -> None:
        raise OSError("it does not want to")
    lifetime.on_stop(close)
    lifetime.on_stop(hang)
    lifetime.start(work_for_ever(), "work")
    lifetime.start(asyncio.sleep(0), "once", finite=True)
    lifetime.start(fail_on_request(), "requests")
    lifetime.ready(listen="127.0.0.1:1")

sys.exit(run_service("demo", ServiceSettings(), bootstrap))
"""


@dataclass
class Service:
    process: asyncio.subprocess.Process
    ready_file: Path

    async def wait_ready(self) -> dict[str, str | int]:
        async with asyncio.timeout(PATIENCE_S):
            while not self.ready_file.exists():  # noqa: ASYNC110 - made by another process
                await asyncio.sleep(0.02)
        facts: dict[str, str | int] = json.loads(self.ready_file.read_text())
        return facts

    async def ended(self) -> tuple[int, list[str], list[dict[str, str]]]:
        """Exit code, lines of output, lines of log."""
        async with asyncio.timeout(PATIENCE_S):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, out.decode().splitlines(), [json.loads(line) for line in err.splitlines()]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    started: list[Service] = []

    async def begin(**environment: str) -> Service:
        ready_file = tmp_path / "ready.json"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            PROGRAM,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "CIRRA_READY_FILE": str(ready_file), **environment},
        )
        started.append(Service(process, ready_file))
        return started[-1]

    yield begin
    for service in started:
        if service.process.returncode is None:
            service.process.kill()
            await service.process.wait()


async def test_a_signal_stops_everything_last_first(start: Start) -> None:
    service = await start()
    facts = await service.wait_ready()
    assert facts == {"pid": service.process.pid, "listen": "127.0.0.1:1"}
    service.process.send_signal(signal.SIGTERM)
    code, output, log = await service.ended()
    assert code == 0
    assert output == ["work stopped", "connection closed"], "also after a part that would not stop"
    assert [line["part"] for line in log if line["message"] == "stopping failed"] == ["bootstrap.<locals>.hang"]
    assert not service.ready_file.exists()


async def test_a_part_that_dies_takes_the_process_down(start: Start) -> None:
    service = await start()
    await service.wait_ready()
    assert service.process.stdin is not None
    service.process.stdin.write(b"die\n")
    await service.process.stdin.drain()
    code, output, log = await service.ended()
    assert code == 1
    assert output == ["work stopped", "connection closed"]
    (death,) = [line for line in log if line["level"] == "critical"]
    assert (death["part"], death["service"]) == ("requests", "demo")
    assert "a part is broken" in death["exception"]


async def test_a_part_that_ends_does_so_too(start: Start) -> None:
    service = await start()
    await service.wait_ready()
    assert service.process.stdin is not None
    service.process.stdin.write(b"end\n")
    await service.process.stdin.drain()
    code, _, log = await service.ended()
    assert code == 1
    assert [line["part"] for line in log if line["level"] == "critical"] == ["requests"]


async def test_what_can_not_be_wired_ends_with_an_error(start: Start) -> None:
    code, _, log = await (await start(CIRRA_CELL="broken")).ended()
    assert code == 1
    (death,) = [line for line in log if line["level"] == "critical"]
    assert "cannot be wired" in death["exception"]


@pytest.mark.parametrize("how", ["waiting", "deaf"])
async def test_a_signal_ends_a_bootstrap_that_waits(start: Start, how: str) -> None:
    """Also one that takes no notice of being cancelled for the first time."""
    service = await start(CIRRA_CELL=how)
    assert service.process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        assert await service.process.stdout.readline() == b"waiting\n"
    service.process.send_signal(signal.SIGINT)
    code, _, log = await service.ended()
    assert code == 0
    assert not [line for line in log if line["level"] == "critical"]


async def test_a_thread_that_hangs_does_not_keep_the_process(start: Start) -> None:
    service = await start(CIRRA_CELL="busy")
    await service.wait_ready()
    service.process.send_signal(signal.SIGTERM)
    code, output, log = await service.ended()
    assert code == 0
    assert output == ["work stopped", "connection closed"]
    assert log[-1]["level"] == "warning"


async def test_metrics_are_served(start: Start) -> None:
    service = await start(CIRRA_METRICS_LISTEN="127.0.0.1:0")
    await service.wait_ready()
    assert service.process.stderr is not None
    address = ""
    while not address:
        async with asyncio.timeout(PATIENCE_S):
            line = json.loads(await service.process.stderr.readline())
        address = line["address"] if line["message"] == "metrics" else ""
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://{address}/metrics")
    assert "cirra_rpc_server_seconds" in answer.text
    service.process.send_signal(signal.SIGTERM)
    code, _, _ = await service.ended()
    assert code == 0
