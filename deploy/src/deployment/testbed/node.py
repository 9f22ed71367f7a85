"""A host from the inside: `python -m deployment.testbed.node` keeps its libvirtd and its agents running."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from core import logs, service
from core.pki.files import write_private
from core.service import Lifetime
from core.settings import ServiceSettings
from deployment.crew import Crew
from deployment.layout import Layout
from deployment.libvirtd import PrivateLibvirtd
from deployment.lock import locked
from deployment.parts import LibvirtPart, ServicePart
from deployment.services import agent_programs
from deployment.testbed.boot import DISK

SUPERVISOR = "supervisor"
_STOP_TIMEOUT_S = 60.0
_RECORD = "node.json"


@dataclass(frozen=True, slots=True)
class Node:
    """What a host is told when it is installed. `environment`: what its agents get beside what they need."""

    name: str
    host_uuid: UUID
    cell: str
    environment: Mapping[str, str]

    def save(self, disk: Path) -> None:
        content = dataclasses.asdict(self) | {"host_uuid": str(self.host_uuid)}
        write_private(disk / _RECORD, json.dumps(content, indent=1).encode())

    @classmethod
    def load(cls, disk: Path) -> Node:
        """Raises FileNotFoundError when it was never installed."""
        content = json.loads((disk / _RECORD).read_text())
        return cls(**content | {"host_uuid": UUID(content["host_uuid"])})


class NodeSupervisor:
    """For `core.service.run`, as `deployment.supervisor.Supervisor` is for the control plane."""

    def __init__(self, layout: Layout, node: Node) -> None:
        self._layout = layout
        self._node = node
        self._crew = Crew(layout.status)

    async def bootstrap(self, lifetime: Lifetime) -> None:
        await self._crew.start(lifetime, self._start_all)
        lifetime.ready(host=self._node.name)

    async def _start_all(self, lifetime: Lifetime) -> None:
        node = self._node
        libvirtd = PrivateLibvirtd(self._layout.libvirt, node.host_uuid)
        await self._crew.start_stage(lifetime, [LibvirtPart(libvirtd)])
        agents = agent_programs(self._layout, node.cell, node.name, libvirtd.uri, node.environment)
        await self._crew.start_stage(lifetime, [ServicePart(program) for program in agents])


def main() -> int:
    layout = Layout(DISK)
    layout.prepare()
    node = Node.load(DISK)
    with locked(layout):
        logs.configure(SUPERVISOR, ServiceSettings(replica=node.name))
        supervisor = NodeSupervisor(layout, node)
        ready_file = layout.ready_file(SUPERVISOR)
        return asyncio.run(service.run(supervisor.bootstrap, ready_file=ready_file, stop_timeout_s=_STOP_TIMEOUT_S))


if __name__ == "__main__":
    sys.exit(main())
