"""Hosts of a cloud under test: real agents, each a process with its journal on disk, on simulated drivers."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cirra.agent.v1.desired_pb2 import DOMAIN_STATE_RUNNING
from core.ids import parse_uuid
from deployment.layout import Layout
from deployment.process import READY_FILE_VARIABLE, Program
from deployment.services import command
from tests.chaos.processes import Process

AGENTS = ("compute-agent", "net-agent")


@dataclass(frozen=True, slots=True)
class Contents:
    """What is on a host: instances that run, instances of which there is a file, ports that are plugged."""

    running: frozenset[str] = frozenset()
    folders: frozenset[str] = frozenset()
    ports: frozenset[str] = frozenset()


class SimulatedHost:
    """`environment`: what its agents get besides their own settings."""

    def __init__(self, layout: Layout, name: str, cell: str, environment: Mapping[str, str]) -> None:
        self.name = name
        self.identity = layout.root / "hosts" / name / "identity"
        self._state = layout.root / "hosts" / name / "state"
        common = {
            **environment,
            "CIRRA_CELL": cell,
            "CIRRA_REPLICA": name,
            "CIRRA_DRIVER": "simulated",
            "CIRRA_HOST_DIRECTORY": str(self.identity),
            "CIRRA_STATE_DIRECTORY": str(self._state),
        }
        self.compute, self.net = (Process(_program(layout, agent, name, common)) for agent in AGENTS)

    async def start(self) -> None:
        await asyncio.gather(self.compute.start(), self.net.start())

    async def stop(self) -> None:
        await asyncio.gather(self.compute.stop(), self.net.stop())

    async def die(self) -> None:
        """All agents end at once, until `revive`. What the hypervisor and the network have stays as it is."""
        agents = (self.compute, self.net)
        for agent in agents:
            agent.keep_down()
        await asyncio.gather(*(agent.kill() for agent in agents))

    def revive(self) -> None:
        for agent in (self.compute, self.net):
            agent.let_up()

    def contents(self) -> Contents:
        """Read from the files in which the simulated hypervisor and network keep what they have."""
        folders = {path for path in (self._state / "instances").iterdir() if parse_uuid(path.name)}
        return Contents(
            running=frozenset(folder.name for folder in folders if _runs(folder / "simulated.json")),
            folders=frozenset(folder.name for folder in folders),
            ports=_ports(self._state / "simulated-network" / "specs.db"),
        )

    def guest(self, uid: str) -> str:
        """A guest as the simulated hypervisor keeps it: its process, how often it was started, its state."""
        return (self._state / "instances" / uid / "simulated.json").read_text()


def _ports(specs: Path) -> frozenset[str]:
    if not specs.exists():
        return frozenset()
    # A reader waits while the agent checkpoints.
    with closing(sqlite3.connect(f"{specs.as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'specs'").fetchone():
            return frozenset()  # begun this moment
        rows = connection.execute("SELECT object_id FROM specs WHERE kind = 'port'")
        return frozenset(port_id for (port_id,) in rows)


def _runs(guest: Path) -> bool:
    return guest.exists() and json.loads(guest.read_text())["state"] == DOMAIN_STATE_RUNNING


def _program(layout: Layout, agent: str, host: str, environment: Mapping[str, str]) -> Program:
    name = f"{agent}-{host}"
    ready_file = layout.ready_file(name)
    return Program(
        name=name,
        argv=(str(command(agent)),),
        environment={**environment, READY_FILE_VARIABLE: str(ready_file)},
        ready_file=ready_file,
        pid_file=layout.pid_file(name),
        log=layout.log(name),
    )
