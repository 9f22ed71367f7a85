"""The whole net-agent: commands of the bus in, wired ports and reports out, through kill -9."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cirra.agent.v1.desired_pb2 import LeaseSeen, Report
from tests.contract.network.hosts import LinuxHost, make_network, make_port
from tests.integration.agent.world import World, until
from tests.integration.net_agent.agent import NetAgentProcess, command, know_the_open_group, wish


def facts(world: World, object_id: str, name: str) -> list[Report]:
    return [report for report in world.reports_on(object_id) if report.WhichOneof("facts") == name]


def leases(world: World, object_id: str) -> list[LeaseSeen]:
    """Those that were told of, by themselves or with the address in use."""
    with_address = (report.address for report in facts(world, object_id, "address"))
    together = [seen.lease for seen in with_address if seen.HasField("lease")]
    return [report.lease for report in facts(world, object_id, "lease")] + together


async def observed(world: World, object_id: str, generation: int) -> Report:
    """What is said of the port itself at that generation; sightings of its guest may come in between."""

    def found() -> list[Report]:
        return [report for report in facts(world, object_id, "port") if report.generation == generation]

    await until(found, f"port {object_id} is reported at {generation}")
    return found()[-1]


@pytest.fixture
async def linux(tmp_path: Path) -> AsyncIterator[LinuxHost]:
    """A private host; the agent has its state in the same folder as the host's own driver, which stays idle."""
    folder = tmp_path / "state"
    folder.mkdir(mode=0o755)
    host = LinuxHost(folder)
    await host.start()
    try:
        yield host
    finally:
        await host.stop()


@pytest.mark.root
async def test_a_port_from_command_to_lease_through_kill_9(world: World, linux: LinuxHost) -> None:
    host_namespace = str(linux.namespaces.path(linux.name))
    agent = NetAgentProcess(world, linux.folder, driver="linux", host_namespace=host_namespace)
    network = make_network()
    port = make_port(network, 11)
    await agent.start()
    try:
        await know_the_open_group(world)
        await command(world, wish(port, 1))
        report = await observed(world, port.port_id, 1)
        assert report.port.wired and not report.HasField("failure")

        guest = await linux.guest(port)
        assert await guest.dhcp() is not None
        assert await guest.reaches("10.77.0.2")
        await until(lambda: leases(world, port.port_id), "the lease is reported")
        await until(lambda: facts(world, port.port_id, "address"), "the address is reported")
        lease = leases(world, port.port_id)[0]
        assert (lease.mac_address, lease.ip_address) == (port.mac_address, "10.77.0.11")
        assert facts(world, port.port_id, "address")[0].address.ip_address == "10.77.0.11"

        before = await linux.fingerprint(network)
        await agent.kill()
        assert await guest.reaches("10.77.0.2")
        await agent.start()
        await until(lambda: len(facts(world, port.port_id, "port")) > 1, "it is reported anew")
        assert await linux.fingerprint(network) == before
        # The guest is seen by the restarted agent again, and by nobody a third time.
        await until(lambda: len(leases(world, port.port_id)) == 2, "the lease is seen again")

        await command(world, wish(port, 2, absent=True))
        assert (await observed(world, port.port_id, 2)).port.absent
        leftovers = await linux.leftovers()
        assert leftovers == []
    finally:
        await agent.stop()


@pytest.mark.root
async def test_the_agents_stop_leaves_everything_and_cleanup_nothing(world: World, linux: LinuxHost) -> None:
    host_namespace = str(linux.namespaces.path(linux.name))
    agent = NetAgentProcess(world, linux.folder, driver="linux", host_namespace=host_namespace)
    network = make_network()
    port = make_port(network, 11)
    await agent.start()
    await command(world, wish(port, 1))
    await observed(world, port.port_id, 1)
    before = await linux.fingerprint(network)
    assert await agent.stop() == 0
    assert await linux.fingerprint(network) == before
    assert await agent.cleanup() == 0
    assert await linux.leftovers() == []


@pytest.mark.root
async def test_a_port_that_can_not_be_wired_is_a_failure_with_a_remedy(world: World, linux: LinuxHost) -> None:
    host_namespace = str(linux.namespaces.path(linux.name))
    agent = NetAgentProcess(world, linux.folder, driver="linux", host_namespace=host_namespace)
    port = make_port(make_network(physical_network="physnet9"), 11)
    await agent.start()
    try:
        await command(world, wish(port, 1))
        report = await world.until_reported(port.port_id, 1)
        assert report.failure.reason == "PHYSICAL_NETWORK_UNKNOWN" and report.failure.reschedule
        assert "CIRRA_PHYSICAL_NETWORKS" in report.failure.remedy
    finally:
        await agent.stop()


async def test_a_simulated_host_says_so_and_its_guests_are_seen_once(world: World, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    settings = {"driver": "simulated", "physical_networks": "physnet1:eth1", "simulated_lease_delay_s": "0"}
    agent = NetAgentProcess(world, state, **settings)
    port = make_port(make_network(), 11)
    await agent.start()
    try:
        await until(lambda: facts(world, "h1", "inventory"), "the inventory is reported")
        inventory = facts(world, "h1", "inventory")[0].inventory
        assert inventory.physical_networks == ["physnet1"]
        assert inventory.traits == {"network_driver": "simulated"}
        await command(world, wish(port, 1))
        assert (await observed(world, port.port_id, 1)).port.wired
        await until(lambda: facts(world, port.port_id, "address"), "the address is reported")
        # A later change of the port passes the observer several times: what was said is not said again.
        await command(world, wish(port, 2, absent=True))
        await observed(world, port.port_id, 2)
        assert len(leases(world, port.port_id)) == len(facts(world, port.port_id, "address")) == 1
    finally:
        await agent.stop()
