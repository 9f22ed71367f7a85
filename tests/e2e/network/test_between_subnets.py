"""Guests of two subnets, on different hosts: a gigabyte each way, and one host less."""

from __future__ import annotations

import asyncio

import pytest

from deployment.demo.tenant import Tenant
from tests.e2e.network import ways_out
from tests.e2e.network.guests import Guest, all_reach_each_other, answers, running, vxlan
from tests.e2e.testbed import states
from tests.testbed.testbed import Testbed

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(900),
]

GIGABYTE = 1 << 30
# Where a tiny guest's web server finds it.
_FOLDER = "/var/www/big"
# Emulated processors, two streams, and others who want the machine.
_GIGABYTE_TIMEOUT_S = 480.0


async def test_subnets_on_different_hosts_talk_and_one_host_is_missed_by_nobody(
    testbed: Testbed, operated: Tenant
) -> None:
    """A gigabyte each way between two hosts, at once; then the first of them is cut off."""
    cut, *others = testbed.hosts
    async with (
        vxlan(operated.user, "left", "10.44.0.0/24") as (left, [left_subnet]),
        vxlan(operated.user, "right", "10.45.0.0/24") as (right, [right_subnet]),
        ways_out.external_network(testbed) as external,
        ways_out.router(operated.user, external, left_subnet, right_subnet),
        running(testbed, operated, "far", (cut, left), (others[0], right), (others[1], left)) as (one, other, third),
    ):
        await all_reach_each_other([one, other, third])
        await asyncio.gather(_receives(one, other), _receives(other, one))
        await cut.cut()
        try:
            assert not await third.reaches(one.address), "it is cut off"
            for source, target in ((other, third), (third, other)):
                # Their gateways are their own hosts'.
                await source.comes_to_reach(target.address)
                hostname = target.instance.hostname
                await answers(source, f"timeout 8 wget -q -O - http://{target.address}/", f"hello from {hostname}")
                assert ways_out.is_a_hosts(await source.run(ways_out.who_asks())), "and their ways out"
        finally:
            await cut.join()
        await states.all_up(testbed)
        await all_reach_each_other([one, other, third])


async def _receives(guest: Guest, source: Guest) -> None:
    """A gigabyte over TCP; in the background of the guest, as whoever asks it has less patience."""
    # Zeros that take no memory: a file with nothing but a length.
    length = f"dd if=/dev/zero of={_FOLDER}/file bs=1 count=0 seek={GIGABYTE}"
    await source.run(f"mkdir -p {_FOLDER} && mount -t tmpfs tmpfs {_FOLDER} && {length}")
    ask = f"wget -q -O /dev/null http://{source.address}/big/file"
    await guest.run(f"({ask}; echo $? >/run/ended; mv /run/ended /run/received) >/dev/null 2>&1 </dev/null &")

    async def ended() -> bool:
        return (await guest.ended("test -e /run/received")).code == 0

    await ways_out.until(ended, "the end of a gigabyte", timeout_s=_GIGABYTE_TIMEOUT_S)
    assert await guest.run("cat /run/received") == "0", "less came than the length that was told"
