"""The net-agent as a process of its own, as a supervisor runs it, and what the conductor would send it."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

from cirra.agent.v1.desired_pb2 import DesiredObject
from core.agent.identity import HostIdentity
from core.bus import publish_command
from net_agent.model import Port, port_to_spec
from net_agent.model.security_group import security_group_to_spec
from tests.contract.network.hosts import OPEN
from tests.integration.agent.world import HOST, World, until


class NetAgentProcess:
    """start() … stop(). settings: environment without the prefix, in lower case."""

    def __init__(self, world: World, state: Path, **settings: str) -> None:
        identity = replace(world.identity(), metadata_url="http://127.0.0.1:9")
        identity.save()
        identity.metadata_key.write_bytes(b"m" * 32)
        self._host_directory = identity.folder
        self._log = state / "net-agent.log"
        self._ready = state / "net-agent.ready"
        own = {
            "cell": world.cell.name,
            "host_directory": str(identity.folder),
            "state_directory": str(state),
            "boot_id_file": str(world.folder / "boot_id"),
            "observe_interval_s": "0.1",
            "heartbeat_interval_s": "0.1",
            "log_format": "json",
            "ready_file": str(self._ready),
        }
        variables = {f"CIRRA_{name.upper()}": value for name, value in (own | settings).items()}
        self.environment = {**os.environ, **variables}
        self._process: asyncio.subprocess.Process | None = None

    def lose_the_bus(self) -> None:
        """It is told of a NATS at which nobody listens."""
        replace(HostIdentity.load(self._host_directory), nats_urls=("nats://127.0.0.1:9",)).save()

    async def start(self, *, wait: bool = True) -> None:
        """wait: until it is ready, which without a bus it never is."""
        self._ready.unlink(missing_ok=True)
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "net_agent", env=self.environment, stdout=log, stderr=log
            )
        if not wait:
            return
        await until(lambda: self._ready.exists() or self._ended(), "the agent is ready")
        assert self._ready.exists(), self._log.read_text()

    async def stop(self) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.terminate()
        return await self._process.wait()

    async def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    async def cleanup(self) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "net_agent", "--cleanup", env=self.environment
        )
        return await process.wait()

    def _ended(self) -> bool:
        return self._process is not None and self._process.returncode is not None


def wish(port: Port, generation: int, *, absent: bool = False) -> DesiredObject:
    desired = DesiredObject(
        host=HOST, agent="net", kind="port", object_id=port.port_id, generation=generation, absent=absent
    )
    if not absent:
        desired.port.CopyFrom(port_to_spec(port))
    return desired


async def command(world: World, desired: DesiredObject) -> None:
    """As the conductor: into the desired state, then on the bus."""
    world.conductor.want(desired)
    kind = desired.kind.title().replace("-", "")
    verb = f"Remove{kind}" if desired.absent else f"Ensure{kind}"
    await publish_command(world.bus, desired.host, desired.agent, verb, desired.object_id, desired)


async def know_the_open_group(world: World) -> None:
    """That in which ports are that are not about security groups: a host forgets what nobody wants of it."""
    desired = DesiredObject(host=HOST, agent="net", kind="security-group", object_id=OPEN.group_id, generation=1)
    desired.security_group.CopyFrom(security_group_to_spec(OPEN))
    await command(world, desired)
