"""A host is off the underlay, from the control plane and from other hosts, while its networks change."""

from __future__ import annotations

import pytest

from cirra.placement.v1.placement_pb2 import HOST_STATE_DOWN
from core.ids import last_segment, tap_device
from deployment.demo.tenant import Tenant
from net_agent.drivers.linux.vxlan import vxlan_device
from tests.e2e.network import ways_out
from tests.e2e.network.guests import Guest, all_reach_each_other, boot, guest_side, running, vxlan
from tests.e2e.testbed import states
from tests.e2e.testbed.guests import delete_all
from tests.testbed.testbed import Testbed

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(600),
]

# It finds out that it may speak again, asks what it missed, and makes it.
CONVERGES_S = 120.0


async def test_what_changed_while_a_host_was_cut_off_is_made_when_it_is_back(
    testbed: Testbed, operated: Tenant
) -> None:
    user, (away, near, far) = operated.user, testbed.hosts
    async with (
        vxlan(user, "old", "10.80.0.0/24") as (old, [old_subnet]),
        vxlan(user, "new", "10.81.0.0/24") as (new, [new_subnet]),
        running(testbed, operated, "cut", (away, old), (away, old), (near, old)) as (kept, gone, moved_out),
    ):
        await all_reach_each_other([kept, gone, moved_out])
        before = guest_side(away)
        await away.cut()
        try:
            await states.becomes(testbed, away.name, HOST_STATE_DOWN)
            assert not await moved_out.reaches(kept.address)
            # On the host itself it is as before.
            await kept.comes_to_reach(gone.address)
            assert await kept.metadata("/latest/meta-data/instance-id"), "it was asked before"
            await delete_all(operated, [gone.instance, moved_out.instance])
            [newcomer] = await boot(testbed, operated, "cut-late", (far, old))
            [stranger] = await boot(testbed, operated, "cut-new", (near, new))
            router = await user.routers.create("late")
            for subnet in (old_subnet, new_subnet):
                await user.routers.add_interface(router, subnet)
            await newcomer.comes_to_reach(stranger.address)
        finally:
            await away.join()
        try:
            await states.all_up(testbed)
            for other in (newcomer, stranger):
                await kept.comes_to_reach(other.address)

            async def forgotten() -> bool:
                return not await _traces(testbed, gone, moved_out)

            await ways_out.until(forgotten, "what was deleted is off the host", timeout_s=CONVERGES_S)
            lost = before.items() - guest_side(away).items()
            assert [kind for _, kind in lost] == ["qemu-system"], "its other guest, DHCP and metadata went on"
        finally:
            for subnet in (old_subnet, new_subnet):
                await user.routers.remove_interface(router, subnet)
            await user.routers.delete(router)


async def _traces(testbed: Testbed, gone: Guest, peer: Guest) -> list[str]:
    """What the host that *gone* was on still has of it, and of a guest that was elsewhere."""
    place = gone.host.name
    tap = tap_device(last_segment(gone.instance.nics[0].port))
    found = [name for name in await testbed.links(place) if name == tap]
    found += [name for name in await testbed.domains(gone.host) if gone.instance.uid in name]
    device = vxlan_device(last_segment(peer.instance.nics[0].network))
    forwarding = await testbed.output(place, "bridge", "fdb", "show", "dev", device)
    return found + [line for line in forwarding.splitlines() if peer.instance.nics[0].mac_address in line]
