"""How long a port takes from its creation until it is wired, on a host whose network is real.

A whole cloud (`bench._cloud`) with a simulated hypervisor; its net-agent makes bridge, tap, rules and dnsmasq in the
benchmark's own network namespace. Interfaces are attached to instances, through the API: one by one, then many at once,
each to another instance, all on one network. Times are the log's: from `PortCreated` to the first
`PortBindingObserved` in which the host says that it has seen it wired. Beside it what the driver alone takes for one.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from bench._cloud import Parts, prepare, running_cloud
from bench._work import boot, succeeded
from cirra.events.v1.events_pb2 import Event
from cirra.network.v1.events_pb2 import PortBindingObserved, PortCreated
from cirra_sdk import AsyncClient
from tests.contract.network.fabric import make_vxlan
from tests.contract.network.hosts import LinuxHost, make_port

PORTS = 50
PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True)
class Spread:
    """Of durations in milliseconds."""

    p50: float
    p99: float

    @classmethod
    def of(cls, durations: Iterable[float]) -> Spread:
        cuts = statistics.quantiles(durations, n=100, method="inclusive")
        return cls(round(cuts[49], 1), round(cuts[98], 1))


async def measure() -> Mapping[str, Spread]:
    """`one`: one by one; `burst`: all at once; `plug`: the driver alone, one by one."""
    # The cloud first: threads that were there before it would stay in the machine's network.
    with tempfile.TemporaryDirectory() as folder:
        async with running_cloud({"CIRRA_NET_AGENT_DRIVER": "linux"}) as cloud, asyncio.timeout(PATIENCE_S):
            admin = cloud.admin
            parts = await prepare(admin, Path(folder))
            await asyncio.gather(*(boot(admin, parts, f"wired-{number}") for number in range(PORTS)))
            instances = [instance.name async for instance in admin.instances.list()]
            began = admin.position
            for instance in instances:
                await _attach(admin, parts, instance)
            turned = admin.position
            await asyncio.gather(*(_attach(admin, parts, instance) for instance in instances))
            durations = await _durations_ms(admin, began)
    return {
        "one": Spread.of(ms for position, ms in durations if position <= turned),
        "burst": Spread.of(ms for position, ms in durations if position > turned),
        "plug": await _plugged_alone(),
    }


async def _attach(admin: AsyncClient, parts: Parts, instance: str) -> None:
    await succeeded(admin, await admin.instances.attach_interface(instance, network=parts.network))


async def _durations_ms(admin: AsyncClient, after: int) -> list[tuple[int, float]]:
    """Of each port created after that position, and where that was."""
    created: dict[str, Event] = {}
    wired: dict[str, Event] = {}
    async for event in admin.events.list(aggregate_type="port", after_position=after):
        if event.data.Is(PortCreated.DESCRIPTOR):
            created[event.aggregate_id] = event
        elif event.data.Is(PortBindingObserved.DESCRIPTOR) and _says_wired(event):
            wired.setdefault(event.aggregate_id, event)
    if len(created) != 2 * PORTS or created.keys() - wired.keys():
        raise SystemExit(f"{len(created)} ports were created, {len(created.keys() & wired.keys())} of them wired")
    return [
        (event.position, (wired[port].time.ToNanoseconds() - event.time.ToNanoseconds()) / 1e6)
        for port, event in created.items()
    ]


def _says_wired(event: Event) -> bool:
    told = PortBindingObserved()
    event.data.Unpack(told)
    return told.observed.wired


async def _plugged_alone() -> Spread:
    """A host in a network namespace that does nothing else: its network has a port already."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # dnsmasq reads its files as a user of its own.
        os.chmod(folder, 0o755)
        host = LinuxHost(Path(folder), tunnel_address=IPv4Address("127.0.0.1"))
        await host.start()
        try:
            network = make_vxlan(77, mtu=1450)
            durations = []
            for number in range(PORTS + 1):
                began = time.perf_counter()
                state = await host.driver.plug(make_port(network, 11 + number))
                durations.append((time.perf_counter() - began) * 1000)
                assert state.wired, state
            return Spread.of(durations[1:])
        finally:
            await host.stop()
