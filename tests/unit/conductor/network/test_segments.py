from __future__ import annotations

import random
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirra.agent.v1 import desired_pb2 as agent
from cirra.network.v1 import network_pb2 as pb
from conductor.network.network import Network
from conductor.network.segments import (
    FLAT,
    NUMBERS,
    VLAN,
    VXLAN,
    Segments,
    choose_number,
    parse_ranges,
    parse_vlans,
)
from core.errors import InvalidArgument
from core.eventlog.types import UniqueClaim, UniqueRelease
from tests.unit.conductor.facts import constrained, refused_fields, saved

NETWORK = uuid4()
JUMBO = Segments(underlay_mtu=9000)


def make(segments: Segments = JUMBO, **fields: object) -> Network:
    wanted = pb.Network(display_name="net", **fields)  # type: ignore[arg-type]
    return Network.create(NETWORK, wanted, project_id="p1", segments=segments)


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"type": FLAT, "segmentation_id": 7}, {"network.segmentation_id"}),
        ({"type": VLAN, "segmentation_id": 4095, "physical_network": "physnet1"}, {"network.segmentation_id"}),
        ({"type": VLAN, "segmentation_id": 7}, {"network.physical_network"}),
        ({"type": VXLAN, "segmentation_id": 7, "physical_network": "physnet1"}, {"network.physical_network"}),
        ({"type": VXLAN, "segmentation_id": 2**24}, {"network.segmentation_id"}),
        ({"type": VXLAN, "segmentation_id": 7, "mtu": 8951}, {"network.mtu"}),
        ({"type": 9, "mtu": 1}, {"network.type", "network.mtu"}),
    ],
)
def test_what_does_not_fit_together_is_refused(fields: dict[str, object], refused: set[str]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        make(**fields)  # type: ignore[arg-type]
    assert refused_fields(caught.value) == refused


@pytest.mark.parametrize(
    ("tenant", "physical", "expected"),
    [(VXLAN, "", VXLAN), (VXLAN, "physnet1", FLAT), (VLAN, "physnet1", VLAN), (FLAT, "physnet1", FLAT)],
)
def test_without_a_type_what_is_on_a_provider_s_segment_is_no_tunnel(
    tenant: pb.NetworkType.ValueType, physical: str, expected: pb.NetworkType.ValueType
) -> None:
    assert Segments(tenant_type=tenant).type_of(pb.Network(physical_network=physical)) == expected


def test_a_vxlan_has_the_underlay_s_mtu_without_what_it_adds() -> None:
    assert make(type=VXLAN, segmentation_id=7).mtu == 8950
    assert make(type=VLAN, segmentation_id=7, physical_network="physnet1").mtu == 9000
    assert make(type=FLAT).mtu == 9000
    assert make(type=VXLAN, segmentation_id=7, mtu=1400).mtu == 1400


@pytest.mark.parametrize(
    ("fields", "scope", "key"),
    [
        ({"type": VXLAN, "segmentation_id": 7}, "vxlan", "7"),
        ({"type": VLAN, "segmentation_id": 7, "physical_network": "physnet1"}, "vlan/physnet1", "7"),
        ({"type": FLAT, "physical_network": "physnet1"}, "physical-network", "physnet1"),
    ],
)
def test_a_network_takes_its_segment_and_gives_it_back(fields: dict[str, object], scope: str, key: str) -> None:
    network = make(**fields)  # type: ignore[arg-type]
    assert UniqueClaim(scope, key, str(NETWORK)) in constrained(network)
    saved(network)
    network.delete()
    assert UniqueRelease(scope, key, str(NETWORK)) in constrained(network)


def test_hosts_are_told_the_kind_and_the_number() -> None:
    spec = make(type=VXLAN, segmentation_id=77).spec()
    assert (spec.kind, spec.segmentation_id, spec.physical_network) == (agent.NETWORK_KIND_VXLAN, 77, "")
    assert make().spec().kind == agent.NETWORK_KIND_FLAT


def test_numbers_are_chosen_where_the_cloud_has_them() -> None:
    segments = Segments(vnis=(range(5, 9),), vlans={"physnet1": (range(10, 12),), "physnet2": (range(20, 21),)})
    assert segments.choices(pb.Network(type=VXLAN)) == {"": segments.vnis}
    assert segments.choices(pb.Network(type=VLAN)) == segments.vlans
    assert segments.choices(pb.Network(type=VLAN, physical_network="physnet2")) == {"physnet2": (range(20, 21),)}
    assert segments.choices(pb.Network(type=VLAN, physical_network="physnet9")) == {"physnet9": ()}
    for nothing in (pb.Network(type=FLAT), pb.Network(type=VXLAN, segmentation_id=3)):
        assert segments.choices(nothing) == {}


@given(st.sets(st.integers(0, 40)), st.randoms(use_true_random=False))
def test_a_number_that_is_not_taken_is_chosen_as_long_as_there_is_one(taken: set[int], rng: random.Random) -> None:
    ranges = (range(3, 9), range(20, 31), range(1, 2))
    free = {number for each in ranges for number in each} - taken
    chosen = choose_number(ranges, taken, rng)
    assert chosen in free if free else chosen is None


def test_each_free_number_is_chosen_at_times() -> None:
    rng = random.Random(7)
    assert {choose_number((range(1, 4), range(9, 11)), {2}, rng) for _ in range(200)} == {1, 3, 9, 10}


def test_ranges_are_read() -> None:
    assert parse_ranges("1:1000, 5000", NUMBERS[VXLAN]) == (range(1, 1001), range(5000, 5001))
    assert parse_vlans("a:100:199,b:7,a:300:301") == {"a": (range(100, 200), range(300, 302)), "b": (range(7, 8),)}
    assert parse_vlans("") == {}
    for wrong in ("0:5", "5:4", "1:10,10:20", "x", "1:99999999"):
        with pytest.raises(ValueError):
            parse_ranges(wrong, NUMBERS[VXLAN])
    for wrong in ("100:199", "a", "a:1:4095", ":1:2"):
        with pytest.raises(ValueError):
            parse_vlans(wrong)
