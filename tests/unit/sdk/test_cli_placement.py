"""How aggregates, server groups and decisions are asked for and shown."""

from __future__ import annotations

from cirra.compute.v1 import server_group_pb2 as groups
from cirra.compute.v1.compute_pb2 import Instance
from cirra.operations.v1.operations_pb2 import Operation
from cirra.placement.v1 import aggregate_pb2 as aggregates
from cirra.placement.v1 import decisions_pb2 as decisions
from cirra.placement.v1 import placement_pb2 as placement
from cirra.placement.v1 import scheduling_pb2 as scheduling
from tests.unit.sdk.conftest import Cirra
from tests.unit.sdk.fake_gateway import FakeGateway

FILTERS = [
    scheduling.FilterResult(filter="compute_up", removed=0, hosts_in=3, hosts_out=3),
    scheduling.FilterResult(filter="vcpus", removed=2, hosts_in=3, hosts_out=1, detail="8 of 8 used"),
]
SCORES = [scheduling.HostScore(host="host-1", score=1.5, weights={"vcpus": 0.5, "memory_mib": 1.0})]


def test_explain_shows_filters_and_weights_of_every_attempt(gateway: FakeGateway, cirra: Cirra) -> None:
    explanation = decisions.PlacementExplanation(instance="projects/p/instances/i1")
    explanation.attempts.add(
        attempt=1,
        outcome=decisions.PLACEMENT_OUTCOME_BUILD_FAILED,
        host="host-1",
        resources=scheduling.Resources(vcpus=1, memory_mib=512, disk_gib=3),
        decision=scheduling.Decision(hosts_considered=3, filters=FILTERS, scores=SCORES),
    )
    explanation.attempts.add(attempt=2, outcome=decisions.PLACEMENT_OUTCOME_REFUSED, message="0 of 3 hosts can take it")
    gateway.answers("ExplainPlacement", explanation)
    shown = cirra("placement", "explain", "web").stdout
    assert gateway.requests("ExplainPlacement")[0].instance == "web"
    assert "Attempt 1  build failed on host-1" in shown
    assert "1 vCPUs, 512 MiB, 3 GiB" in shown
    [vcpus] = [line.split() for line in shown.splitlines() if line.split()[:1] == ["vcpus"]]
    assert vcpus == ["vcpus", "3", "1", "2", "8", "of", "8", "used"]
    [best] = [line.split() for line in shown.splitlines() if line.startswith("host-1 (chosen)")]
    assert best[2:] == ["1.500", "1.000", "0.500"]
    assert "Attempt 2  refused" in shown and "0 of 3 hosts can take it" in shown


def test_simulate_says_how_many_where_and_why_not_more(gateway: FakeGateway, cirra: Cirra) -> None:
    simulation = decisions.PlacementSimulation(
        hosts_considered=3,
        asked=10,
        placed=8,
        hosts=[decisions.SimulatedHost(host="host-2", instances=8)],
        refusal=scheduling.Decision(hosts_considered=3, filters=FILTERS),
        refusal_message="0 of 3 hosts can take it; vcpus: 2 hosts removed, 8 of 8 used",
        refusal_remedy="add hosts",
    )
    gateway.answers("SimulatePlacement", simulation)
    result = cirra(
        *("placement", "simulate", "--flavor", "small", "--count", "10", "--without", "host-1", "--without", "host-3"),
        *("--network", "lan", "--az", "north", "--image", "debian", "--group", "web"),
    )
    assert gateway.requests("SimulatePlacement")[0] == decisions.SimulatePlacementRequest(
        flavor="small",
        count=10,
        image="debian",
        networks=["lan"],
        availability_zone="north",
        server_group="web",
        without_hosts=["host-1", "host-3"],
    )
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["Placed", "8", "of", "10"] in lines and ["host-2", "8"] in lines
    assert "vcpus: 2 hosts removed, 8 of 8 used" in result.stdout and "add hosts" in result.stdout


def test_a_host_is_told_only_what_was_said(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers("UpdateHost", placement.Host(name="hosts/host-1"))
    assert cirra("host", "set", "host-1", "--cpu-allocation-ratio", "2.5", "--reserved-ram", "0").exit_code == 0
    request = gateway.requests("UpdateHost")[0]
    assert list(request.update_mask.paths) == ["inventory.vcpu_allocation_ratio", "inventory.reserved_memory_mib"]
    assert request.host == placement.Host(name="host-1", inventory=placement.Inventory(vcpu_allocation_ratio=2.5))
    nothing = cirra("host", "set", "host-1")
    assert (nothing.exit_code, "nothing to set" in nothing.stderr) == (2, True)


def test_metadata_of_an_aggregate_is_set_and_removed_by_key(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers("UpdateAggregate", aggregates.Aggregate(name="aggregates/a1"))
    cirra("aggregate", "set", "rack", "--property", "ssd=true", "--zone", "north")
    cirra("aggregate", "unset", "rack", "--property", "ssd")
    first, second = gateway.requests("UpdateAggregate")
    assert list(first.update_mask.paths) == ["availability_zone", "metadata.ssd"]
    assert (first.aggregate.availability_zone, dict(first.aggregate.metadata)) == ("north", {"ssd": "true"})
    assert list(second.update_mask.paths) == ["metadata.ssd"] and not second.aggregate.metadata


def test_policies_are_written_as_nova_writes_them(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers("CreateServerGroup", groups.ServerGroup(name="projects/p/serverGroups/g1"))
    cirra("server", "group", "create", "web", "--policy", "soft-anti-affinity")
    wanted = gateway.requests("CreateServerGroup")[0].server_group
    assert wanted == groups.ServerGroup(display_name="web", policy=groups.SERVER_GROUP_POLICY_SOFT_ANTI_AFFINITY)
    wrong = cirra("server", "group", "create", "web", "--policy", "lonely")
    assert wrong.exit_code == 2 and "'anti-affinity'" in wrong.stderr


def test_hints_go_as_they_are(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers("CreateInstance", Operation(uid="o1", target="projects/p/instances/i1"))
    gateway.answers("GetInstance", Instance(name="projects/p/instances/i1"))
    cirra("server", "create", "web", "--flavor", "f", "--image", "i", "--network", "n", "--hint", "group=web")
    assert dict(gateway.requests("CreateInstance")[0].scheduler_hints) == {"group": "web"}
