"""`kill -9` of the net-agent in the middle of many bindings: what was begun is brought to its end."""

from __future__ import annotations

import pytest

from cirra.agent.v1.desired_pb2 import DesiredObject
from net_agent.model.peer import peer_to_spec
from tests.contract.network.fabric import make_peer, make_vxlan
from tests.contract.network.hosts import LinuxHost, make_port
from tests.contract.network.waiting import until
from tests.integration.agent.world import HOST, World
from tests.integration.net_agent.agent import NetAgentProcess, command, know_the_open_group, wish
from tests.integration.net_agent.test_agent import facts, linux  # noqa: F401 — the fixture

PORTS, NETWORKS = 50, 5


@pytest.mark.root
async def test_fifty_bindings_survive_kill_9(world: World, linux: LinuxHost) -> None:  # noqa: F811
    settings = {"driver": "linux", "host_namespace": str(linux.namespace), "tunnel_address": "127.0.0.1"}
    agent = NetAgentProcess(world, linux.folder, **settings)
    networks = [make_vxlan(100 + number, f"10.{number}.0.0/24") for number in range(NETWORKS)]
    ports = [make_port(networks[number % NETWORKS], 11 + number // NETWORKS) for number in range(PORTS)]

    def wired() -> int:
        return sum(any(it.port.wired for it in facts(world, port.port_id, "port")) for port in ports)

    async def some_are() -> bool:
        return wired() >= 3

    async def all_are() -> bool:
        return wired() == PORTS

    await agent.start()
    try:
        await know_the_open_group(world)
        for port in ports:
            await command(world, wish(port, 1))
        await until(some_are, timeout_s=60)
        await agent.kill()
        assert wired() < PORTS, "it was killed in the middle"
        await agent.start()
        await until(all_are, timeout_s=180)
        for port in ports[:NETWORKS]:
            guest = await linux.guest(port)
            assert await guest.dhcp() is not None
    finally:
        await agent.stop()


@pytest.mark.root
async def test_the_host_heals_while_the_control_plane_is_away(world: World, linux: LinuxHost) -> None:  # noqa: F811
    """Also what a restarted agent has only on its disk: peers, and what their names are."""
    settings = {"driver": "linux", "host_namespace": str(linux.namespace), "heal_interval_s": "0.5"}
    agent = NetAgentProcess(world, linux.folder, tunnel_address="127.0.0.1", **settings)
    network = make_vxlan(100)
    port, peer = make_port(network, 11), make_peer(network, 12)

    async def told() -> bool:
        return bool(facts(world, port.port_id, "port"))

    await agent.start()
    try:
        await know_the_open_group(world)
        await command(world, wish(port, 1))
        desired = DesiredObject(host=HOST, agent="net", kind="peer", object_id=peer.port_id, generation=1)
        desired.peer.CopyFrom(peer_to_spec(peer))
        await command(world, desired)
        await until(told)
        guest = await linux.guest(port)
        assert await guest.dhcp() is not None

        async def meets_the_peer() -> bool:
            return await guest.finds("10.77.0.12") and await guest.resolve("guest-12") == "10.77.0.12"

        async def break_it() -> None:
            await linux.kill(network, "dnsmasq")
            await linux.command("ip", "link", "set", port.device, "nomaster")
            await linux.command("ip", "neigh", "flush", "nud", "permanent", "dev", network.bridge)

        await until(meets_the_peer, timeout_s=60)
        await world.stop_conductor()
        await break_it()
        await until(meets_the_peer, timeout_s=60)
        await agent.kill()
        agent.lose_the_bus()
        await break_it()
        await agent.start(wait=False)
        await until(meets_the_peer, timeout_s=60)
    finally:
        await agent.stop()
