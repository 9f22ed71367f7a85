"""The whole control plane, NATS and Postgres are down, and guests don't notice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cirra.compute.v1.compute_pb2 import INSTANCE_STATUS_ACTIVE
from core.ids import last_segment, tap_device
from core.testing.faults.processes import kill
from deployment.demo.tenant import Tenant
from deployment.layout import Layout
from deployment.lock import supervisor_pid
from deployment.status import Status
from deployment.testbed.boot import DISK
from deployment.testbed.site import INTERNET
from tests.e2e.network import ways_out
from tests.e2e.network.guests import METADATA, Guest, all_reach_each_other, answers, guest_side, running, vxlan
from tests.e2e.testbed import states
from tests.testbed.testbed import Testbed

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(600),
]

# Asked for by each tiny guest when it boots, and by none.
_ASKED = ("/latest/meta-data/instance-id", "/openstack/latest/meta_data.json")
_NEVER_ASKED = "/latest/meta-data/local-ipv4"


async def test_guests_go_on_while_the_whole_control_plane_is_away(testbed: Testbed, operated: Tenant) -> None:
    user = operated.user
    async with (
        vxlan(user, "alone", "10.50.0.0/24") as (network, [subnet]),
        ways_out.external_network(testbed) as external,
        ways_out.router(user, external, subnet),
        running(testbed, operated, "alone", *((host, network) for host in testbed.hosts)) as guests,
    ):
        await all_reach_each_other(guests)
        await _sees_the_world(guests[0])
        told = [[await guest.metadata(path) for path in _ASKED] for guest in guests]
        assert all(all(answers) for answers in told)
        processes = [guest_side(host) for host in testbed.hosts]
        async with control_plane_away(testbed):
            assert not await guests[0].metadata(_NEVER_ASKED), "the metadata service is down, too"
            await all_reach_each_other(guests)
            await guests[0].comes_to_reach(guests[1].instance.hostname)
            await _sees_the_world(guests[0])
            for guest in guests:
                await _renews_its_lease(testbed, guest)
            assert [[await guest.metadata(path) for path in _ASKED] for guest in guests] == told
            await _heals(testbed, guests[1], guests[2])
        assert [guest_side(host) for host in testbed.hosts] == processes, "the same guests, DHCP servers and proxies"
        for guest in guests:
            assert (await user.instances.get(guest.instance.name)).status == INSTANCE_STATUS_ACTIVE
            await answers(guest, f"timeout 8 wget -q -O - {METADATA}{_NEVER_ASKED}", guest.address)
        async with running(testbed, operated, "later", (testbed.hosts[0], network)) as newcomers:
            await all_reach_each_other([guests[2], *newcomers])


@asynccontextmanager
async def control_plane_away(testbed: Testbed) -> AsyncIterator[None]:
    """All of it is killed, as when its machine fails, and started again afterwards."""
    layout = testbed.cloud.layout
    status, supervisor = Status.load(layout.status), supervisor_pid(layout)
    assert status is not None and supervisor is not None
    parts = {name: part.pid for name, part in status.parts.items() if name != INTERNET and part.pid is not None}
    assert {"postgres", "nats-server", "conductor-1", "placement-1", "api-gateway-1", "metadata-1"} <= parts.keys()
    # First who would start the others again.
    await kill(supervisor, tree=False)
    await kill(*parts.values())
    try:
        yield
    finally:
        again = await testbed.cloud.deploy("up", "--hosts", str(len(testbed.hosts)))
        assert again.code == 0, again.output
        await states.all_up(testbed)


async def _sees_the_world(guest: Guest) -> None:
    async def seen() -> bool:
        return ways_out.is_a_hosts((await guest.inside.run(ways_out.who_asks())).text)

    await ways_out.until(seen, "a way out")


async def _renews_its_lease(testbed: Testbed, guest: Guest) -> None:
    """Told to, its client asks the server that it knows, as at half the lease's time (RFC 2131, 4.4.5)."""
    before = await _lease_ends(testbed, guest)
    await guest.run("kill -USR1 $(cat /run/udhcpc.eth0.pid)")

    async def later() -> bool:
        return await _lease_ends(testbed, guest) > before

    await ways_out.until(later, "a later end of the lease")


async def _lease_ends(testbed: Testbed, guest: Guest) -> int:
    """By its host's server, in seconds since 1970."""
    nic = guest.instance.nics[0]
    file = Layout(DISK).networks / last_segment(nic.network) / "leases"
    lines = (line.split() for line in (await testbed.output(guest.host.name, "cat", str(file))).splitlines())
    [end] = [int(line[0]) for line in lines if len(line) > 2 and line[1:3] == [nic.mac_address, nic.fixed_ip]]
    return end


async def _heals(testbed: Testbed, guest: Guest, other: Guest) -> None:
    """What somebody breaks on a host is put right without the cloud."""
    await testbed.output(
        guest.host.name, "ip", "link", "set", tap_device(last_segment(guest.instance.nics[0].port)), "nomaster"
    )
    await other.comes_to_reach(guest.address)
