"""The outside of a machine that is its deployment's only host: somebody in the Internet, in a namespace of its own.

A veth pair is the cable between the provider's router in there and the machine, whose end is the uplink of physical
network `physnet1`. Hosts of a testbed have an outside in common (`deployment.testbed`); so has a machine whose operator
names its physical networks, and none is made here.
"""

from __future__ import annotations

from collections.abc import Mapping

from deployment.layout import Layout
from deployment.testbed import wires
from deployment.testbed.plan import OUTSIDE_NAME, PHYSICAL_NETWORK, Plan

_PHYSICAL_NETWORKS = "CIRRA_PHYSICAL_NETWORKS"


class Outside:
    """Nothing is made by making one."""

    def __init__(self, layout: Layout) -> None:
        site = Plan.of(layout.root, 1, "")
        self._namespace = site.namespace(OUTSIDE_NAME)
        self._uplink = f"{site.control_device}p"

    @property
    def exists(self) -> bool:
        return wires.exists(self._namespace)

    async def ensure(self, environment: Mapping[str, str]) -> Mapping[str, str]:
        """It is there, unless the machine has another; *environment* with what agents must know of it. Raises
        WiringFailed."""
        if environment.get(_PHYSICAL_NETWORKS):
            await self.remove()
            return environment
        await wires.build_outside(self._namespace, self._uplink)
        return {**environment, _PHYSICAL_NETWORKS: f"{PHYSICAL_NETWORK}:{self._uplink}"}

    async def remove(self) -> None:
        """Absent is success."""
        await wires.remove_outside(self._namespace, self._uplink)

    def enter(self, *command: str) -> list[str]:
        """The command that runs *command* in there."""
        return ["nsenter", f"--net={wires.path(self._namespace)}", "--", *command]
