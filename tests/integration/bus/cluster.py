"""Three nats-servers as one cluster, with JetStream, for tests that kill the leader of a stream."""

from __future__ import annotations

import asyncio
import json
import signal
from asyncio.subprocess import DEVNULL, Process
from pathlib import Path

from core.bus import Bus
from core.embedded.nats import binary
from core.embedded.process import death_signal_prefix
from core.embedded.server import LOOPBACK, free_port

SIZE = 3


class NatsCluster:
    """An async context manager. `kill`, `start`, `pause`, `resume` work on one server, by its name (`n0` … `n2`).

    `advertise`: clients are told of the other servers, and move to them.
    """

    def __init__(self, folder: Path, *, advertise: bool = True) -> None:
        self._folder = folder
        self._advertise = advertise
        self._ports = {f"n{number}": free_port() for number in range(SIZE)}
        self._routes = {name: free_port() for name in self._ports}
        self._processes: dict[str, Process] = {}

    @property
    def urls(self) -> list[str]:
        return [f"nats://{LOOPBACK}:{port}" for port in self._ports.values()]

    @property
    def names(self) -> list[str]:
        return [*self._ports]

    def url(self, name: str) -> str:
        return f"nats://{LOOPBACK}:{self._ports[name]}"

    async def __aenter__(self) -> NatsCluster:
        await asyncio.gather(*map(self.start, self._ports))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for name in list(self._processes):
            await self.kill(name)

    async def start(self, name: str) -> None:
        config = self._folder / f"{name}.conf"
        config.write_text(
            json.dumps(
                {
                    "server_name": name,
                    "listen": f"{LOOPBACK}:{self._ports[name]}",
                    "jetstream": {"store_dir": str(self._folder / name)},
                    "cluster": {
                        "name": "test",
                        "listen": f"{LOOPBACK}:{self._routes[name]}",
                        "no_advertise": not self._advertise,
                        "routes": [f"nats://{LOOPBACK}:{port}" for port in self._routes.values()],
                    },
                }
            )
        )
        self._processes[name] = await asyncio.create_subprocess_exec(
            *death_signal_prefix(signal.SIGTERM), str(binary()), "--config", str(config), stdout=DEVNULL, stderr=DEVNULL
        )

    async def kill(self, name: str) -> None:
        process = self._processes.pop(name)
        process.send_signal(signal.SIGKILL)
        await process.wait()

    def pause(self, name: str) -> None:
        """SIGSTOP: it takes connections and answers nothing."""
        self._processes[name].send_signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        self._processes[name].send_signal(signal.SIGCONT)


async def leader_of(bus: Bus, stream: str) -> str:
    """The name of the server that leads a stream; empty while there is none."""
    info = await bus.js.stream_info(stream)
    return (info.cluster.leader or "") if info.cluster else ""
