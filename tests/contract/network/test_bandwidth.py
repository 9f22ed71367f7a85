"""The bandwidth of ports: what every driver takes, and what stands in the kernel. bench/bandwidth.py measures it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from net_agent.drivers.linux.bandwidth import detour_device
from net_agent.model import Bandwidth
from tests.contract.network.hosts import Host, LinuxHost, make_network, make_port

BOTH = Bandwidth(ingress_kbps=20_000, egress_kbps=10_000)


async def test_limits_come_and_go_with_their_port(host: Host) -> None:
    port = make_port(make_network(), 11, bandwidth=BOTH)
    for limits in (BOTH, replace(BOTH, ingress_kbps=30_000), replace(BOTH, egress_kbps=0), Bandwidth(), BOTH):
        wanted = replace(port, bandwidth=limits)
        await host.driver.plug(wanted)
        assert (await host.driver.observe(port.port_id)).wired
        before = await host.fingerprint(port.network)
        await host.driver.plug(wanted)
        await host.restart()
        await host.driver.plug(wanted)
        assert await host.fingerprint(port.network) == before, "what is right is not touched"
    await host.driver.unplug(port.port_id)
    assert await host.leftovers() == []


@pytest.mark.root
async def test_each_way_has_its_bucket(linux: LinuxHost) -> None:
    port = make_port(make_network(), 11, bandwidth=replace(BOTH, egress_burst_kbits=800))
    await linux.driver.plug(port)
    detour = detour_device(port.port_id)
    assert "rate 20Mbit burst 25000b" in await linux.command("tc", "qdisc", "show", "dev", port.device)
    assert "rate 10Mbit burst 100000b" in await linux.command("tc", "qdisc", "show", "dev", detour)
    await linux.driver.plug(replace(port, bandwidth=Bandwidth()))
    left = await linux.command("tc", "qdisc", "show", "dev", port.device)
    assert "tbf" not in left and "ingress" not in left
    assert detour not in await linux.command("ip", "-o", "link")


@pytest.mark.root
@pytest.mark.parametrize("harm", ["root", "ingress", "detour"])
async def test_what_somebody_took_away_is_missed_and_comes_back(linux: LinuxHost, harm: str) -> None:
    port = make_port(make_network(), 11, bandwidth=BOTH)
    await linux.driver.plug(port)
    if harm == "detour":
        await linux.command("ip", "link", "del", detour_device(port.port_id))
    else:
        await linux.command("tc", "qdisc", "del", "dev", port.device, harm)
    state = await linux.driver.observe(port.port_id)
    assert not state.wired and "its bandwidth is not as it shall be" in state.lacking
    assert await linux.driver.heal() == {}
    assert (await linux.driver.observe(port.port_id)).wired
