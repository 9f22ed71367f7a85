"""A cloud with several hosts under test, and the world around them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cirra.compute.v1.compute_pb2 import Instance
from core.ids import dhcp_namespace, last_segment
from deployment.demo.guest import HttpGuest
from deployment.testbed.host import Host
from deployment.testbed.plan import OFFICE_DHCP_DEVICE, OFFICE_NAME
from deployment.testbed.site import Site
from tests.e2e.cloud import Cloud, running_cloud
from tests.e2e.machine import Finished, links_of, run
from tests.testbed.traces import namespaces_of, traces, uptime_s

# A machine that asks for an address twice, a second apart, and gives up.
DHCP_CLIENT = (
    *("busybox", "udhcpc", "-f", "-n", "-q", "-s", "/bin/true", "-i", OFFICE_DHCP_DEVICE),
    *("-t", "2", "-T", "1", "-A", "1"),
)
# How it says that it does so.
DHCP_UNANSWERED = "no lease, failing"


@dataclass(frozen=True, slots=True)
class Testbed:
    """`site`: its hosts, to be cut, joined, paused, powered off and on. Who changes something puts it back."""

    __test__ = False

    cloud: Cloud
    site: Site

    @property
    def hosts(self) -> tuple[Host, ...]:
        return self.site.hosts

    async def run(self, place: str, *command: str) -> Finished:
        """Run a command on a host, `outside`, or in the `office`. Raises TimeoutError."""
        return await run(*self.site.enter(place, *command))

    async def output(self, place: str, *command: str) -> str:
        """What a command that succeeds printed."""
        finished = await self.run(place, *command)
        assert finished.code == 0, f"{place}: {' '.join(command)} ended with {finished.code}:\n{finished.output}"
        return finished.output

    async def domains(self, host: Host) -> list[str]:
        """Names of all that the host's own libvirtd knows, on the word of its virsh."""
        uri = host.inner_libvirt_uri
        return (await self.output(host.name, "virsh", "--connect", uri, "list", "--all", "--name")).split()

    async def links(self, place: str) -> dict[str, Any]:
        """Interfaces by name."""
        return links_of(await self.output(place, "ip", "-json", "link"))

    def inside(self, instance: Instance) -> HttpGuest:
        """A tiny guest, from its host: `run` runs a script in it."""
        host = last_segment(instance.host)
        nic = instance.nics[0]
        return HttpGuest(dhcp_namespace(last_segment(nic.network)), nic.fixed_ip, onto=tuple(self.site.enter(host)))

    async def dhcp_answer(self) -> str | None:
        """What a machine in the office is offered when it asks for an address there; None: nobody answered."""
        asked = await self.run(OFFICE_NAME, *DHCP_CLIENT)
        if asked.code == 0:
            return asked.output
        assert DHCP_UNANSWERED in asked.output, f"no question was asked: {asked.output}"
        return None


@asynccontextmanager
async def running_testbed(
    state_dir: Path, hosts: int, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Testbed]:
    """Up within, down and without a trace afterwards."""
    namespaces: set[str] = set()
    marks = [str(state_dir)]
    async with running_cloud(state_dir, settings, up=("--hosts", str(hosts))) as cloud:
        site = Site.of(cloud.layout, cloud.config)
        assert site is not None
        marks.append(site.plan.tag)
        namespaces |= namespaces_of(site)
        found = traces(marks, namespaces, uptime_s())
        assert all(found.values()), f"what is not seen while it is there is not missed afterwards: {found}"
        yield Testbed(cloud, site)
        namespaces |= namespaces_of(site)
        ending_s = uptime_s()
    left = {kind: found for kind, found in traces(marks, namespaces, ending_s).items() if found}
    assert not left, f"not removed: {left}"
