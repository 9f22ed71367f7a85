"""Why a guest has no network, by the public API: what the log tells, and what its host says when it is asked."""

from __future__ import annotations

import pytest

from cirra.agent.v1 import diagnosis_pb2 as agent
from cirra.network.v1 import diagnosis_pb2 as pb
from cirra_sdk.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from tests.harness.cloud import Cloud, Parts, Standing, Tenant
from tests.integration.acceptance.refusals import refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

BROKEN = agent.PathHop(
    name="tap",
    title="the tap is up and on its bridge",
    state=agent.PATH_HOP_STATE_BROKEN,
    observed="tap1 is up, and on no bridge",
    reason="TAP_OFF_BRIDGE",
    remedy="put it back",
)
RIGHT = agent.PathHop(name="rules", state=agent.PATH_HOP_STATE_OK, observed="in force")
ABSENT = agent.PathHop(name="floating-ip", state=agent.PATH_HOP_STATE_NOT_APPLICABLE, inward=True)


async def booted(cloud: Cloud, tenant: Tenant, parts: Parts, *hops: agent.PathHop) -> tuple[str, str]:
    """An instance of whose only port its host will tell this; their uids."""
    made = await tenant.boot(parts)
    [host] = [host for host in cloud.hosts if made.uid in host.domains]
    port = made.nics[0].port.rpartition("/")[2]
    host.paths[port] = agent.PathFound(hops=hops)
    return made.uid, port


async def test_the_first_broken_hop_is_the_verdict(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    uid, port = await booted(cloud, tenant, parts, RIGHT, BROKEN, ABSENT)
    tenant.catch_up()
    found = await cloud.admin.diagnosis.diagnose(uid, to="tcp/22", from_cidr="203.0.113.0/24", capture=True)
    assert [hop.name for hop in found.hops] == ["bound", "wired", "host", "rules", "tap", "floating-ip"]
    assert {hop.port for hop in found.hops} == {port} and len({hop.host for hop in found.hops}) == 1
    assert found.hops[-1].direction == pb.HOP_DIRECTION_INWARD
    assert found.verdict.state == pb.HOP_STATE_BROKEN and found.verdict.hop == found.hops[4]
    assert (found.hops[4].reason, found.hops[4].remedy) == ("TAP_OFF_BRIDGE", "put it back")
    [asked] = [path for host in cloud.hosts for path in host.walked if path.port_id == port]
    assert (asked.to, asked.from_cidr, asked.capture) == ("tcp/22", "203.0.113.0/24", True)


async def test_the_peer_s_host_is_asked_for_its_side(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    uid, port = await booted(cloud, tenant, parts, RIGHT)
    peer, far = await booted(cloud, tenant, parts, BROKEN)
    tenant.catch_up()
    found = await cloud.admin.diagnosis.diagnose(uid, peer=peer, to="icmp")
    assert [(hop.name, hop.port) for hop in found.hops] == [
        *((name, port) for name in ("bound", "wired", "host", "rules")),
        *((name, far) for name in ("bound", "wired", "host", "tap")),
    ]
    assert found.verdict.hop == found.hops[-1], "it is broken at the other end"
    asked = {path.port_id: (path.side, path.to) for host in cloud.hosts for path in host.walked}
    assert (asked[port], asked[far]) == ((False, "icmp"), (True, ""))


async def test_hosts_that_do_not_answer_tunnels_are_asked_themselves(
    cloud: Cloud, tenant: Tenant, parts: Parts
) -> None:
    far = [await booted(cloud, tenant, parts, BROKEN) for _ in range(4)]
    nobody = "01a1ff41-f932-75c2-98e5-9c95acdd5962"
    silent = agent.PathHop(
        name="underlay", state=agent.PATH_HOP_STATE_BROKEN, others=[nobody, *(port for _, port in far)]
    )
    uid, port = await booted(cloud, tenant, parts, silent)
    tenant.catch_up()
    found = await cloud.admin.diagnosis.diagnose(uid)
    asked = {hop.port: hop.host for hop in found.hops}
    [own] = [host.name for host in cloud.hosts if port in host.paths]
    hosts = {host.name for host in cloud.hosts for _, other in far if other in host.paths}
    assert asked.pop(port) == own and found.verdict.hop.name == "underlay"
    assert sorted(asked.values()) == sorted(hosts - {own}), "each once, and not the one that has told so"
    walked = {path.port_id: path.side for host in cloud.hosts for path in host.walked}
    assert all(walked[other] for other in asked)


async def test_nothing_is_broken(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    uid, port = await booted(cloud, tenant, parts, RIGHT, ABSENT)
    tenant.catch_up()
    for found in (
        await cloud.admin.diagnosis.diagnose(uid),
        await cloud.admin.diagnosis.diagnose(port=port),
        await cloud.admin.diagnosis.diagnose(uid, port=port),
    ):
        assert found.verdict == pb.Verdict(state=pb.HOP_STATE_OK)


async def test_a_host_that_does_not_answer_is_broken(
    cloud: Cloud, tenant: Tenant, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conductor.network.diagnosis_commands.PATIENCE_S", 0.5)
    uid, _ = await booted(cloud, tenant, parts, RIGHT)
    tenant.catch_up()
    for host in cloud.hosts:
        host.mute = True
    try:
        found = await cloud.admin.diagnosis.diagnose(uid)
    finally:
        for host in cloud.hosts:
            host.mute = False
    assert (found.verdict.hop.name, found.verdict.hop.reason) == ("host", "HOST_SILENT")
    assert "net" in found.verdict.hop.remedy


async def test_a_port_that_is_bound_nowhere(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    port = await tenant.client.ports.create(network=parts.network)
    tenant.catch_up()
    found = await cloud.admin.diagnosis.diagnose(port=port)
    assert (found.verdict.hop.name, found.verdict.hop.reason) == ("bound", "PORT_NOT_BOUND")


async def test_what_is_refused(cloud: Cloud, standing: Standing, tenant: Tenant, parts: Parts) -> None:
    uid, _ = await booted(cloud, tenant, parts, RIGHT)
    tenant.catch_up()
    diagnose = cloud.admin.diagnosis.diagnose
    async with refused(cloud, PermissionDenied, "ROLE_MISSING"):
        await tenant.client.diagnosis.diagnose(uid)
    async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", "instance"):
        await diagnose()
    for wish in ("ssh", "tcp", "tcp/0", "tcp/70000", "22"):
        async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", "to"):
            await diagnose(uid, to=wish)
    async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", "from_cidr"):
        await diagnose(uid, from_cidr="203.0.113.1/24")
    async with refused(cloud, NotFound, "NOT_FOUND"):
        await diagnose(uid, peer="01a1ff41-f932-75c2-98e5-9c95acdd5962")
    async with refused(cloud, NotFound, "NOT_FOUND"):
        await diagnose("01a1ff41-f932-75c2-98e5-9c95acdd5962")


async def test_a_guest_that_does_not_run(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    uid, port = await booted(cloud, tenant, parts, RIGHT)
    operation = await tenant.client.instances.stop(uid)
    await tenant.client.operations.wait(operation.uid, timeout_s=120)
    tenant.catch_up()
    async with refused(cloud, FailedPrecondition, "INSTANCE_NOT_ACTIVE", says="SHUTOFF"):
        await cloud.admin.diagnosis.diagnose(uid)
    async with refused(cloud, FailedPrecondition, "INSTANCE_NOT_ACTIVE"):
        await cloud.admin.diagnosis.diagnose(port=port)
