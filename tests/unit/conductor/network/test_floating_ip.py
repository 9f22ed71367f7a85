"""Floating IPs: an address that leads to one port, through one router."""

from __future__ import annotations

from uuid import uuid4

import pytest

from cirra.network.v1 import events_pb2
from conductor import references
from conductor.network.floating_ip import TARGETS, FloatingIp, Target
from core.errors import FailedPrecondition, NotFound
from core.eventlog.types import CounterAdd, UniqueClaim, UniqueRelease
from tests.unit.conductor.facts import constrained, happened, saved

WEB = Target("web", "10.0.0.5", "s1", "r1")
DB = Target("db", "10.0.0.6", "s1", "r1")
TAKEN = [
    CounterAdd(references.FLOATING_IPS_THROUGH, "r1/ext", 1),
    CounterAdd(references.FLOATING_IPS_THROUGH, "r1/s1", 1),
]
GIVEN_BACK = [
    CounterAdd(references.FLOATING_IPS_THROUGH, "r1/ext", -1),
    CounterAdd(references.FLOATING_IPS_THROUGH, "r1/s1", -1),
]


def make() -> FloatingIp:
    made = FloatingIp.create(uuid4(), project_id="p1", network_id="ext", subnet_id="pool", address="203.0.113.7")
    saved(made)
    return made


def test_its_address_is_claimed_and_counted() -> None:
    made = FloatingIp.create(uuid4(), project_id="p1", network_id="ext", subnet_id="pool", address="203.0.113.7")
    me = str(made.id)
    assert made.resource_name == f"projects/p1/floatingIps/{me}"
    assert constrained(made) == [
        CounterAdd("quota/floating_ips", "p1", 1),
        CounterAdd(references.SUBNET_FLOATING_IPS, "pool", 1),
        UniqueClaim("address/pool", "203.0.113.7", me),
    ]
    saved(made)
    made.delete()
    assert constrained(made) == [
        CounterAdd("quota/floating_ips", "p1", -1),
        CounterAdd(references.SUBNET_FLOATING_IPS, "pool", -1),
        UniqueRelease("address/pool", "203.0.113.7", me),
    ]
    with pytest.raises(NotFound):
        made.delete()


def test_it_leads_to_one_target_and_holds_its_way_open() -> None:
    made = make()
    made.associate(WEB)
    assert constrained(made) == [UniqueClaim(TARGETS, "web/10.0.0.5/ext", str(made.id)), *TAKEN]
    assert made.as_of_port().fixed_ip_address == "10.0.0.5"
    saved(made)
    made.associate(WEB)
    assert happened(made) == []
    with pytest.raises(FailedPrecondition, match=r"leads to 10\.0\.0\.5 of port web already") as refused:
        made.associate(DB)
    assert refused.value.reason == "FLOATING_IP_IN_USE" and "move" in refused.value.remedy
    assert made.target == WEB


def test_it_moves() -> None:
    made = make()
    made.associate(WEB)
    saved(made)
    made.associate(DB, move=True)
    kinds = [type(message) for message in happened(made)]
    assert kinds == [events_pb2.FloatingIpDisassociated, events_pb2.FloatingIpAssociated] and made.target == DB
    assert constrained(made)[:3] == [UniqueRelease(TARGETS, "web/10.0.0.5/ext", str(made.id)), *GIVEN_BACK]


def test_it_is_disassociated_also_by_its_end() -> None:
    made = make()
    made.associate(WEB)
    saved(made)
    made.delete()
    assert isinstance(happened(made)[0], events_pb2.FloatingIpDisassociated)
    assert made.target is None and made.deleted
    other = make()
    other.disassociate()
    assert happened(other) == []
