"""Each filter and weigher on a table of hosts; and the choice, against the plainest way to make it."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirra.placement.v1 import placement_pb2 as public
from cirra.placement.v1 import scheduling_pb2 as api
from placement.hosts.capacity import amounts
from placement.hosts.labels import Labels, LabelSets
from placement.hosts.table import HostTable
from placement.scheduling.refusal import NoValidHost
from placement.scheduling.scheduler import FILTERS, TRIED, WEIGHERS, Scheduler, _best, installed
from placement.scheduling.simulation import simulate

SMALL = api.Resources(vcpus=1, memory_mib=512, disk_gib=5)
KVM = public.Inventory(
    virt_types=["kvm", "qemu"],
    cpu_arch="x86_64",
    cpu_model="Skylake",
    hypervisor_version="7.2.5",
    vcpus=8,
    traits={"compute.nested": "1", "net.network_driver": "linux", "compute.tpm": "0"},
)
ARM = public.Inventory(virt_types=["qemu"], cpu_arch="aarch64", hypervisor_version="6.1", vcpus=4)


def table(*inventories: public.Inventory) -> HostTable:
    """`host-0`, `host-1`, …: up, each with room for eight small guests."""
    hosts = HostTable()
    for number, inventory in enumerate(inventories):
        row = hosts.row(f"host-{number}")
        hosts.set_inventory(row, inventory)
        hosts.set_capacity(row, (8, 4096, 40))
        hosts.zones.set(row, "nova")
        hosts.up[row] = True
    return hosts


ALL_FILTERS, ALL_WEIGHERS = installed(FILTERS), installed(WEIGHERS)


def scheduler() -> Scheduler:
    return Scheduler(ALL_FILTERS, ALL_WEIGHERS, random=Random(3))


def chosen(hosts: HostTable, **asked: object) -> set[str]:
    try:
        return set(scheduler().choose(hosts, api.ClaimRequest(resources=SMALL, **asked)).hosts)  # type: ignore[arg-type]
    except NoValidHost:
        return set()


@pytest.mark.parametrize(
    ("extra_specs", "image_properties", "hosts"),
    [
        ({}, {}, {"host-0", "host-1"}),
        ({"hw:virt_type": "kvm"}, {}, {"host-0"}),
        ({}, {"hw_virt_type": "kvm"}, {"host-0"}),
        ({"capabilities:cpu_arch": "aarch64"}, {}, {"host-1"}),
        ({"capabilities:cpu_model": "<or> Skylake <or> Epyc"}, {}, {"host-0"}),
        ({"capabilities:vcpus_total": ">= 5"}, {}, {"host-0"}),
        ({"capabilities:hypervisor_type": "kvm"}, {}, {"host-0"}),
        ({"capabilities:net.network_driver": "linux"}, {}, {"host-0"}),
        ({"capabilities:unheard_of": "1"}, {}, set()),
        ({"hw:cpu_policy": "dedicated"}, {}, {"host-0", "host-1"}),
        ({}, {"hw_architecture": "arm64"}, {"host-1"}),
        ({}, {"architecture": "AMD64"}, {"host-0"}),
        ({}, {"img_hv_type": "kvm"}, {"host-0"}),
        ({}, {"img_hv_type": "qemu"}, {"host-0", "host-1"}),
        ({}, {"img_hv_type": "xen"}, set()),
        ({}, {"img_hv_requested_version": ">=7.0"}, {"host-0"}),
        ({"trait:NESTED": "required"}, {}, {"host-0"}),
        ({}, {"trait:compute.nested": "forbidden"}, {"host-1"}),
        ({"trait:TPM": "required"}, {}, set()),
    ],
)
def test_what_hosts_can(extra_specs: dict[str, str], image_properties: dict[str, str], hosts: set[str]) -> None:
    assert chosen(table(KVM, ARM), extra_specs=extra_specs, image_properties=image_properties) == hosts


def test_a_host_that_does_not_tell_its_architecture_is_taken_to_have_any() -> None:
    unknown = public.Inventory(virt_types=["simulated"])
    assert chosen(table(unknown), image_properties={"hw_architecture": "x86_64"}) == {"host-0"}


def test_where_hosts_are() -> None:
    hosts = table(KVM, KVM, KVM)
    hosts.zones.set(1, "north")
    hosts.physical_networks.set(2, ["rack", "public"])
    hosts.revision += 1
    assert chosen(hosts, availability_zone="north") == {"host-1"}
    assert chosen(hosts, host="host-2") == {"host-2"}
    assert chosen(hosts, host="host-9") == set()
    assert chosen(hosts, excluded_hosts=["host-0", "host-9"]) == {"host-1", "host-2"}
    assert chosen(hosts, physical_networks=["rack", "public"]) == {"host-2"}
    assert chosen(hosts, physical_networks=["rack", "lab"]) == set()
    assert chosen(hosts, tunnels=True) == set()
    hosts.set_inventory(0, public.Inventory(virt_types=["kvm"], tunnel_address="192.0.2.1"))
    hosts.revision += 1
    assert chosen(hosts, tunnels=True) == {"host-0"}


def test_metadata_of_aggregates() -> None:
    hosts = table(KVM, KVM, KVM)
    hosts.aggregate_metadata = {"a": {"disk": "hdd, ssd"}, "b": {"disk": "nvme", "gpu": "2"}}
    hosts.aggregates.set(0, ["a"])
    hosts.aggregates.set(1, ["a", "b"])
    hosts.revision += 1

    def having(**specs: str) -> set[str]:
        scope = "aggregate_instance_extra_specs:"
        return chosen(hosts, extra_specs={f"{scope}{key}": value for key, value in specs.items()})

    assert having(disk="ssd") == {"host-0", "host-1"}
    assert having(disk="<or> nvme <or> optane") == {"host-1"}
    assert having(disk="s!= hdd", gpu=">= 2") == {"host-1"}
    assert having(disk="tape") == set()
    assert chosen(hosts, extra_specs={"gpu": "2"}) == {"host-1"}
    hosts.aggregates.set(1, [])
    hosts.revision += 1
    assert having(gpu="2") == set()


def test_what_is_kept_of_filters_is_forgotten_when_a_host_changes() -> None:
    hosts, deciding = table(KVM, KVM), scheduler()
    request = api.ClaimRequest(resources=SMALL)
    assert len(deciding.choose(hosts, request).hosts) == 2
    hosts.enabled[0] = False
    hosts.revision += 1
    assert deciding.choose(hosts, request).hosts == ("host-1",)


def rule(policy: api.GroupPolicy.ValueType, most: int = 0) -> api.GroupRule:
    return api.GroupRule(group_id="g", policy=policy, max_servers_per_host=most)


def test_groups() -> None:
    hosts = table(KVM, KVM, KVM)
    apart, together = rule(api.GROUP_POLICY_ANTI_AFFINITY), rule(api.GROUP_POLICY_AFFINITY)
    assert len(chosen(hosts, group=together)) == 3
    hosts.take(0, (1, 512, 5), apart)
    assert chosen(hosts, group=apart) == {"host-1", "host-2"}
    assert len(chosen(hosts, group=rule(api.GROUP_POLICY_ANTI_AFFINITY, 2))) == 3
    assert chosen(hosts, group=together) == {"host-0"}
    best = scheduler().choose(hosts, api.ClaimRequest(resources=SMALL, group=rule(api.GROUP_POLICY_SOFT_AFFINITY)))
    assert best.hosts[0] == "host-0" and "soft_affinity" in best.decision.scores[0].weights
    hosts.take(0, (1, 512, 5), apart, -1)
    assert hosts.groups == {}


def test_hosts_where_guests_failed_come_last() -> None:
    hosts = table(KVM, KVM, KVM)
    hosts.take(1, (4, 2048, 20), None)
    hosts.build_failures[0] = 1
    order = scheduler().choose(hosts, api.ClaimRequest(resources=SMALL)).hosts
    assert order == ("host-2", "host-1", "host-0")


def test_the_refusal_is_one_line_with_usage_and_a_remedy() -> None:
    hosts = table(KVM, KVM, KVM)
    hosts.enabled[2] = False
    for row in (0, 1):
        hosts.take(row, (8, 512, 5), None)
    with pytest.raises(NoValidHost) as refused:
        scheduler().choose(hosts, api.ClaimRequest(resources=SMALL))
    assert refused.value.message == (
        "0 of 3 hosts can take it; compute_enabled: 1 host removed; "
        "vcpus: 2 hosts removed, 16 of 16 used, at most 0 free, 1 asked"
    )
    assert "fewer vCPUs" in refused.value.remedy
    assert refused.value.metadata == {"removed_by_compute_enabled": "1", "removed_by_vcpus": "2"}
    counts = {each.filter: (each.hosts_in, each.removed, each.hosts_out) for each in refused.value.decision.filters}
    assert (counts["compute_enabled"], counts["vcpus"]) == ((3, 1, 2), (2, 2, 0))


@given(st.lists(st.floats(-1000, 1000), min_size=1, max_size=2000), st.integers(1, 8))
def test_the_best_are_those_that_sorting_everything_finds(scores: list[float], count: int) -> None:
    total = np.array(scores)
    found = total[_best(total, count)]
    assert found.tolist() == sorted(scores, reverse=True)[:count]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 8), st.booleans()), min_size=1, max_size=60))
def test_every_host_that_can_and_no_other(hosts_told: list[tuple[int, int, bool]]) -> None:
    hosts = table(*[KVM] * len(hosts_told))
    for row, (used, capacity, enabled) in enumerate(hosts_told):
        hosts.set_capacity(row, (capacity, 4096, 40))
        hosts.take(row, (used, 0, 0), None)
        hosts.enabled[row] = enabled
        assert hosts.free[row].tolist() == [hosts.left(column)[row] for column in range(3)]
    can = {f"host-{row}" for row, (used, capacity, enabled) in enumerate(hosts_told) if enabled and used < capacity}
    found = chosen(hosts)
    assert found <= can and len(found) == min(len(can), TRIED)


async def test_simulating_fills_the_hosts_and_leaves_the_table_alone() -> None:
    hosts = table(KVM, KVM, KVM)
    claim = api.ClaimRequest(resources=SMALL, group=rule(api.GROUP_POLICY_ANTI_AFFINITY, 5))
    answer = await simulate(scheduler(), hosts, api.SimulateRequest(claim=claim, count=20, without_hosts=["host-1"]))
    assert (answer.placed, dict(answer.placed_by_host)) == (10, {"host-0": 5, "host-2": 5})
    assert "thought_away: 1 host removed; server_group_anti_affinity: 2 hosts removed" in answer.refusal_message
    assert hosts.used.sum() == 0 and hosts.groups == {} and hosts.left(0).tolist() == [8, 8, 8]


@given(st.lists(st.tuples(st.integers(0, 200), st.text("abc", max_size=2)), max_size=40))
def test_labels_are_what_was_set_last(told: list[tuple[int, str]]) -> None:
    labels, sets = Labels(), LabelSets()
    for row, value in told:
        labels.set(row, value)
        sets.set(row, value)
    last = dict(told)
    for value in ("a", "bb", ""):
        assert labels.equal(value, 201).tolist() == [last.get(row, "") == value for row in range(201)]
    assert sets.having("a", 201).tolist() == ["a" in last.get(row, "") for row in range(201)]
    assert sets.having_any(201).tolist() == [bool(last.get(row, "")) for row in range(201)]


def test_amounts_are_in_the_order_of_the_table() -> None:
    assert tuple(amounts(SMALL).values()) == (1, 512, 5)
