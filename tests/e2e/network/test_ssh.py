"""A Debian guest is entered by ssh from the outside world, by its floating IP."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from deployment import guests as images
from deployment.demo.guest import Guest, reach, wait_login
from deployment.demo.key import new_key
from deployment.demo.tenant import make_tenant
from deployment.demo.userdata import user_data
from deployment.testbed import plan
from tests.e2e.network import ways_out
from tests.testbed.testbed import Testbed

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(1800),
]

# Debian's own boot, emulated, where others want the processors: minutes.
BUILT_S, LOGIN_S, SAID_S = 240.0, 1200.0, 120.0
METADATA = "curl --silent --show-error --max-time 20 http://169.254.169.254"
WAY_OUT_MTU = "cat /sys/class/net/$(ip route show default | sed 's/.* dev //; s/ .*//')/mtu"


async def test_ssh_from_outside_by_a_floating_ip(testbed: Testbed, tmp_path: Path) -> None:
    """With the key that the cloud injected; the guest knows the address that it is known by outside, names of the
    world by the subnet's DNS server, and what a frame may carry."""
    key = tmp_path / "id"
    image = await asyncio.to_thread(images.build, "debian")
    async with testbed.cloud.admin() as admin, ways_out.external_network(testbed) as external:
        tenant = await make_tenant(admin, image, "debian", new_key(key, "ssh"), print)
        user = tenant.user
        [subnet] = [each async for each in user.subnets.list(network=tenant.network.name)]
        dns, web = str(plan.DNS[0].ip), str(plan.WEB[0].ip)
        await user.subnets.update(subnet, dns_nameservers=[dns])
        async with ways_out.router(user, external, subnet):
            operation = await tenant.boot(user_data("debian", "from-user-data"))
            try:
                await user.operations.wait(operation, timeout_s=BUILT_S)
                instance = await user.instances.get(operation.target)
                async with ways_out.floating_ip(user, external, instance.nics[0].port) as floating:
                    address = floating.floating_ip_address
                    outside = testbed.site.enter(plan.OUTSIDE_NAME)
                    guest = reach("debian", "", address, image.login_user, key, outside)
                    await wait_login(guest, LOGIN_S)
                    assert await _said(guest, "hostname") == instance.hostname
                    assert await _said(guest, f"{METADATA}/latest/meta-data/public-ipv4") == address
                    assert await _said(guest, f"{METADATA}/latest/meta-data/security-groups") == "login"
                    assert await _said(guest, f"curl --silent --max-time 20 http://{web}/ip") == address
                    assert web in await _said(guest, f"getent ahostsv4 {plan.WEB_NAMES[0]}")
                    assert await _said(guest, WAY_OUT_MTU) == str(tenant.network.mtu)
            finally:
                deleting = await user.instances.delete(operation.target)
                await user.operations.wait(deleting, timeout_s=BUILT_S)


async def _said(guest: Guest, script: str) -> str:
    """What the script printed, asked for again until it ends well."""
    deadline = time.monotonic() + SAID_S
    while (output := await guest.run(script)).code != 0:
        assert time.monotonic() < deadline, f"{script}: {output}"
        await asyncio.sleep(0.5)
    return output.text.strip()
