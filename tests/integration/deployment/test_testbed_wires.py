"""Networks of a testbed, without hosts: the switch, the Internet, the office. They need root."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.testing.faults.processes import kill
from deployment.layout import Layout
from deployment.testbed import plan
from deployment.testbed.plan import Plan
from deployment.testbed.site import Site
from deployment.testbed.wires import Wires
from tests.harness.root import require_root
from tests.testbed.testbed import DHCP_CLIENT

pytestmark = pytest.mark.root


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    require_root("network namespaces")
    made = Site(Layout(tmp_path), Plan.of(tmp_path, 2, str(plan.CONTROL.ip)), "test")
    await made.build()
    yield made
    await made.remove()
    left = [name for name in await asyncio.to_thread(os.listdir, "/run/netns") if made.plan.tag in name]
    assert (left, await Wires(made.plan).stand()) == ([], False)


async def test_a_second_build_leaves_what_stands(site: Site) -> None:
    before = await output(site, plan.OFFICE_NAME, "ip", "-brief", "link")
    await site.build()
    assert await output(site, plan.OFFICE_NAME, "ip", "-brief", "link") == before


async def test_the_office_reaches_the_provider_and_the_internet(site: Site) -> None:
    for address in (*plan.OUTSIDE, *plan.WEB):
        route = await output(site, plan.OFFICE_NAME, "ip", "route", "get", str(address.ip))
        assert "dev eth0" in route


async def test_a_dhcp_server_of_the_providers_is_heard_in_the_office(site: Site) -> None:
    """So that silence, where others test for it, means that nobody answered."""
    assert (await run(site, plan.OFFICE_NAME, *DHCP_CLIENT))[0] != 0
    server = await asyncio.create_subprocess_exec(*dhcp_server(site))
    try:
        async with asyncio.timeout(60):
            while (await run(site, plan.OFFICE_NAME, *DHCP_CLIENT))[0] != 0:
                assert server.returncode is None
    finally:
        await kill(server.pid, tree=False)
        await server.wait()


def dhcp_server(site: Site) -> list[str]:
    network = plan.OUTSIDE[0].network
    options = ("--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=eth0", "--user=root")
    files = ("--pid-file=", "--dhcp-leasefile=/dev/null", "--dhcp-authoritative")
    pool = f"--dhcp-range={network.network_address + 100},{network.network_address + 110},1h"
    return site.enter(plan.OUTSIDE_NAME, "dnsmasq", *options, *files, pool)


async def output(site: Site, place: str, *command: str) -> str:
    code, said = await run(site, place, *command)
    assert code == 0, said
    return said


async def run(site: Site, place: str, *command: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *site.enter(place, *command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()
