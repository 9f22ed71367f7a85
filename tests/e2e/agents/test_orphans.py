"""What is on a host and was never the cloud's: an operator sees it; nothing and nobody of the cloud touches it."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import libvirt
import pytest

from core.ids import bridge_device, tap_device, uuid7
from deployment.demo.tenant import Tenant
from deployment.servers import servers
from tests.e2e.agents.guest import TIMEOUT_S, create, created, delete
from tests.e2e.agents.host import Host

pytestmark = [pytest.mark.root, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600), pytest.mark.slow]

Seen = set[tuple[str, str, str]]
_MARK = '<metadata><c:instance xmlns:c="https://cirra.dev/xmlns/domain/1" id="{}"/></metadata>'


@dataclass(frozen=True, slots=True)
class Strangers:
    """Ids of: somebody else's guest, a guest with Cirra's mark, a port, a network."""

    foreign: str
    domain: str
    port: str
    network: str
    dnsmasq: int

    @property
    def as_orphans(self) -> Seen:
        return {
            ("compute", "domain", self.foreign),
            ("compute", "domain", self.domain),
            ("net", "port", self.port),
            ("net", "network", self.network),
        }


async def test_orphans_are_shown_and_left_alone(host: Host, tenant: Tenant) -> None:
    async with strangers(host) as those:
        await until_shown(host, those.as_orphans)
        before = await state(host, those)
        # Reconcile, the delete of others', and new lives of the agents.
        former = await host.kill("compute-agent", "net-agent")
        guest = await created(tenant, host, await create(tenant))
        await host.run_anew(former)
        assert not {orphan for orphan in await shown(host) if orphan[2] == guest.uid}
        await delete(guest)
        await until_shown(host, those.as_orphans)
        assert await state(host, those) == before
    await until_shown(host, set())


async def shown(host: Host) -> Seen:
    """As `cirra host show` has them."""
    async with host.cloud.admin() as admin:
        found = await admin.hosts.get(host.cloud.config.host)
    assert all(orphan.description and orphan.HasField("see_time") for orphan in found.orphans)
    return {(orphan.agent, orphan.kind, orphan.object_id) for orphan in found.orphans}


async def until_shown(host: Host, wanted: Seen) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while (found := await shown(host)) != wanted:
        assert time.monotonic() < deadline, f"{found} instead of {wanted}"
        await asyncio.sleep(0.2)


async def state(host: Host, those: Strangers) -> object:
    """Of all that is nobody's: what would change if somebody had touched it."""
    links = await host.cloud.machine.links()
    connection = libvirt.open(servers(host.cloud.layout, host.cloud.config).libvirt_uri)
    try:
        domains = {domain.UUIDString(): (domain.ID(), domain.XMLDesc()) for domain in connection.listAllDomains()}
    finally:
        connection.close()
    names = (tap_device(those.port), bridge_device(those.network))
    return [links[name]["ifindex"] for name in names], domains


@asynccontextmanager
async def strangers(host: Host) -> AsyncIterator[Strangers]:
    """They come, run, and go by their owner's hand."""
    machine, folder = host.cloud.machine, host.cloud.layout.networks
    foreign, domain, port, network = (str(uuid7()) for _ in range(4))
    await machine.checked("ip", "tuntap", "add", tap_device(port), "mode", "tap")
    await machine.checked("ip", "link", "set", tap_device(port), "alias", f"cirra:port:{port}")
    await machine.checked("ip", "link", "add", bridge_device(network), "type", "bridge")
    await machine.checked("ip", "link", "set", bridge_device(network), "alias", f"cirra:network:{network}")
    pid_file = folder / network / "dnsmasq.pid"
    await asyncio.to_thread(pid_file.parent.mkdir, parents=True)
    dnsmasq = await asyncio.create_subprocess_exec(
        "/usr/sbin/dnsmasq", "--keep-in-foreground", "--port=0", "--conf-file=/dev/null", f"--pid-file={pid_file}"
    )
    connection = libvirt.open(servers(host.cloud.layout, host.cloud.config).libvirt_uri)
    made = [connection.defineXML(_domain(name, mark)) for name, mark in ((foreign, ""), (domain, _MARK.format(domain)))]
    try:
        for each in made:
            each.create()
        yield Strangers(foreign, domain, port, network, dnsmasq.pid)
        assert dnsmasq.returncode is None
        assert all(each.isActive() for each in made)
    finally:
        for each in made:
            each.destroy()
            each.undefine()
        connection.close()
        if dnsmasq.returncode is None:
            dnsmasq.terminate()
        await dnsmasq.wait()
        await asyncio.to_thread(shutil.rmtree, pid_file.parent)
        await machine.checked("ip", "link", "del", bridge_device(network))
        await machine.checked("ip", "link", "del", tap_device(port))


def _domain(uuid: str, metadata: str) -> str:
    return f"""
        <domain type='qemu'><name>stranger-{uuid}</name><uuid>{uuid}</uuid>{metadata}
        <memory unit='MiB'>16</memory><vcpu>1</vcpu><os><type arch='x86_64'>hvm</type></os></domain>"""
