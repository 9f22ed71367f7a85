"""Several NICs, and NICs that come and go, by the public API."""

from __future__ import annotations

import pytest

from cirra.agent.v1 import desired_pb2 as agent
from cirra.compute.v1 import compute_pb2 as compute
from cirra.network.v1 import network_pb2 as network
from cirra.operations.v1 import operations_pb2 as operations
from cirra_sdk.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from tests.contract.network.waiting import until
from tests.harness.cloud import Cloud, Parts, Tenant
from tests.harness.control_plane import PATIENCE_S
from tests.integration.acceptance.refusals import refused
from tests.integration.acceptance.test_instance_actions import done, host_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_one_is_made_with_several(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    port = await tenant.client.ports.create(network=parts.network, display_name="mine")
    given = port.fixed_ips[0].ip_address
    wanted = "10.0.0.88" if given != "10.0.0.88" else "10.0.0.89"  # addresses are given out at random
    nics = [compute.InstanceNic(port=port.name), compute.InstanceNic(network=parts.network.name, fixed_ip=wanted)]
    booted = await tenant.boot(parts, nics=nics)
    assert [nic.fixed_ip for nic in booted.nics] == [given, wanted]
    told = host_of(cloud, booted.uid).domains[booted.uid].domain
    assert [nic.port_id for nic in told.nics] == [nic.port for nic in booted.nics]


async def test_a_port_of_the_user_s_is_plugged_and_kept(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    client = tenant.client
    booted = await tenant.boot(parts)
    port = await client.ports.create(network=parts.network)
    plugged = await done(tenant, client.instances.attach_interface(booted, port=port))
    assert [nic.port for nic in plugged.nics] == [booted.nics[0].port, port.uid]
    host = host_of(cloud, booted.uid)
    assert port.uid in host.ports
    told = host.domains[booted.uid].domain
    assert [(nic.port_id, nic.mac_address) for nic in told.nics][1] == (port.uid, port.mac_address)
    bound = await client.ports.get(port)
    assert (bound.device_id, bound.status) == (booted.uid, network.PORT_STATUS_ACTIVE)

    unplugged = await done(tenant, client.instances.detach_interface(booted, port))
    assert [nic.port for nic in unplugged.nics] == [booted.nics[0].port]
    assert port.uid not in host.ports
    free = await client.ports.get(port)
    assert (free.device_id, free.status, len(free.bindings)) == ("", network.PORT_STATUS_DOWN, 0)


async def test_a_port_made_for_it_goes_with_its_nic(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    client = tenant.client
    booted = await tenant.boot(parts)
    usage = await tenant.usage()
    wanted = "10.0.0.99" if booted.nics[0].fixed_ip != "10.0.0.99" else "10.0.0.98"
    plugged = await done(tenant, client.instances.attach_interface(booted, network=parts.network, fixed_ip=wanted))
    assert plugged.nics[1].fixed_ip == wanted
    assert (await tenant.usage())["ports"] == usage["ports"] + 1
    await done(tenant, client.instances.detach_interface(booted, plugged.nics[1].port))
    with pytest.raises(NotFound):
        await client.ports.get(plugged.nics[1].port)
    assert await tenant.usage() == usage


async def test_a_guest_that_releases_nothing_keeps_it(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    client = tenant.client
    booted = await tenant.boot(parts)
    plugged = await done(tenant, client.instances.attach_interface(booted, network=parts.network))
    host = host_of(cloud, booted.uid)
    host.failing["domain"] = agent.Failure(reason="NIC_NOT_RELEASED", message="the guest has not", remedy="stop it")
    failed = await tenant.ended(await client.instances.detach_interface(booted, plugged.nics[1].port))
    assert (failed.state, failed.error.reason) == (operations.OPERATION_STATE_FAILED, "NIC_NOT_RELEASED")
    host.failing.clear()
    kept = await client.instances.get(booted)
    assert (kept.status, kept.task_state, len(kept.nics)) == (compute.INSTANCE_STATUS_ACTIVE, "", 2)


async def test_what_is_refused(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    client = tenant.client
    booted, other = await tenant.boot(parts), await tenant.boot(parts)
    instances = client.instances
    async with refused(cloud, FailedPrecondition, "PORT_IN_USE"):
        await instances.attach_interface(booted, port=other.nics[0].port)
    async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", "nic"):
        await instances.attach_interface(booted)
    async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", "nic.fixed_ip"):
        await instances.attach_interface(booted, network=parts.network, fixed_ip="10.9.9.9")
    async with refused(cloud, NotFound, "NOT_FOUND"):
        await instances.detach_interface(booted, other.nics[0].port)
    await cloud.admin.quotas.set(tenant.project, {"ports": 2})
    async with refused(cloud, ResourceExhausted, "QUOTA_EXCEEDED"):
        await instances.attach_interface(booted, network=parts.network)


async def test_a_delete_takes_all_nics_along(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    client = tenant.client
    booted = await tenant.boot(parts)
    mine = await client.ports.create(network=parts.network)
    await done(tenant, client.instances.attach_interface(booted, port=mine))
    await done(tenant, client.instances.attach_interface(booted, network=parts.network))
    await client.operations.wait(await client.instances.delete(booted), timeout_s=PATIENCE_S)
    assert [port.uid async for port in client.ports.list(network=parts.network.name)] == [mine.uid]
    assert (await client.ports.get(mine)).device_id == ""


async def test_a_port_s_bandwidth_is_told_to_its_host(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    limits = network.BandwidthLimits(ingress_kbps=20_000, egress_kbps=10_000, egress_burst_kbits=800)
    port = await tenant.client.ports.create(network=parts.network, qos=limits)
    assert port.qos == limits
    booted = await tenant.boot(parts, nics=[compute.InstanceNic(port=port.name)])
    told = host_of(cloud, booted.uid).ports[port.uid].port.bandwidth
    assert (told.ingress_kbps, told.egress_kbps, told.egress_burst_kbits) == (20_000, 10_000, 800)
    async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", "port.qos.ingress_kbps"):
        await tenant.client.ports.create(network=parts.network, qos=network.BandwidthLimits(ingress_kbps=1))


async def test_a_port_that_is_in_use_is_changed(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    """Its host is told, its server shows the address, and no quota is used up."""
    ports = tenant.client.ports
    port = await ports.create(network=parts.network, fixed_ips=[network.FixedIp(ip_address="10.0.0.70")])
    booted = await tenant.boot(parts, nics=[compute.InstanceNic(port=port.name)])
    usage = await tenant.usage()
    moved, limits = network.FixedIp(ip_address="10.0.0.71"), network.BandwidthLimits(egress_kbps=10_000)
    changed = await ports.update(port, display_name="front", fixed_ips=[moved], qos=limits)
    assert (changed.display_name, changed.qos) == ("front", limits)
    assert [fixed.ip_address for fixed in changed.fixed_ips] == ["10.0.0.71"]
    [nic] = (await tenant.client.instances.get(booted)).nics
    assert nic.fixed_ip == "10.0.0.71"

    async def told() -> bool:
        spec = host_of(cloud, booted.uid).ports[port.uid].port
        return [each.ip_address for each in spec.addresses] == ["10.0.0.71"] and spec.bandwidth.egress_kbps == 10_000

    await until(told)
    again = await ports.update(port, qos=network.BandwidthLimits())
    assert not again.HasField("qos")
    assert await tenant.usage() == usage
