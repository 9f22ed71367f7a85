"""Replicas of placement as processes of their own, which a test may kill, stop and wake."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from core.embedded.process import death_signal_prefix

WINDOW_S = 4.0
START_S = 120.0


class Replica:
    """`address`: host:port, once it has started."""

    def __init__(self, name: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.address = ""
        self._ready_file = folder / f"{name}.ready"
        self._log = folder / f"{name}.log"
        self._environment = {**environment, "CIRRA_REPLICA": name, "CIRRA_READY_FILE": str(self._ready_file)}
        self._process: Process | None = None

    async def start(self) -> None:
        """Returns when it does its job. Raises TimeoutError with what it logged."""
        self._ready_file.unlink(missing_ok=True)
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *death_signal_prefix(signal.SIGKILL),
                *(sys.executable, "-m", "placement"),
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        try:
            async with asyncio.timeout(START_S):
                while not self._ready_file.exists():
                    self.require_alive()
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise TimeoutError(f"{self.name} did not start: {self._log.read_text()[-2000:]}") from error
        self.address = json.loads(self._ready_file.read_text())["grpc"]

    async def end(self, how: signal.Signals) -> None:
        """SIGKILL, or SIGTERM for a good end. Nothing if it has ended."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(how)
            self._process.send_signal(signal.SIGCONT)
            await self._process.wait()

    def stop(self) -> None:
        """SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def revive(self) -> None:
        """Wakes it if it was stopped, starts it if it has ended."""
        if self.pids:
            self.wake()
        else:
            await self.start()

    @property
    def pids(self) -> list[int]:
        """Its process, if there is one."""
        return [] if self._process is None or self._process.returncode is not None else [self._process.pid]

    def require_alive(self) -> None:
        assert self._process is not None
        assert self._process.returncode is None, self._log.read_text()[-2000:]


def environment(
    folder: Path, *, cell: str, dsn: str, nats_urls: Sequence[str], credentials: Path | None = None
) -> dict[str, str]:
    """Of a replica without TLS."""
    master = folder / "master"
    master.write_text(base64.b64encode(os.urandom(32)).decode())
    inherited = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG") if name in os.environ}
    return {
        **inherited,
        "CIRRA_CELL": cell,
        "CIRRA_POSTGRES_DSN": dsn,
        "CIRRA_NATS_URLS": ",".join(nats_urls),
        "CIRRA_MASTER_KEY_FILE": str(master),
        "CIRRA_HEARTBEAT_WINDOW_S": str(WINDOW_S),
        "CIRRA_MACHINE": "machine-1",
        **({} if credentials is None else {"CIRRA_NATS_CREDENTIALS": str(credentials)}),
    }


@asynccontextmanager
async def two_replicas(folder: Path, environment: Mapping[str, str]) -> AsyncIterator[tuple[Replica, Replica]]:
    """Both have started; killed at the end."""
    replicas = Replica("placement-1", folder, environment), Replica("placement-2", folder, environment)
    async with AsyncExitStack() as stack:
        for replica in replicas:
            stack.push_async_callback(replica.end, signal.SIGKILL)
        await asyncio.gather(*(replica.start() for replica in replicas))
        yield replicas
