from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from cirra.agent.v1 import desired_pb2 as agent
from cirra.network.v1 import events_pb2
from cirra.network.v1 import network_pb2 as pb
from conductor.network.port import Port
from conductor.network.port_security import OFF, PortSecurity
from conductor.turn import Turn
from core.errors import FailedPrecondition, NotFound
from core.eventlog.types import CounterAdd, UniqueClaim, UniqueRelease
from tests.unit.conductor.facts import constrained, happened, saved

PORT = uuid4()
ACTIVE, INACTIVE = pb.PORT_BINDING_STATE_ACTIVE, pb.PORT_BINDING_STATE_INACTIVE


def make(**fields: object) -> Port:
    port = Port.create(
        PORT,
        project_id="p1",
        network_id="n1",
        mac_address="fa:16:3e:00:00:01",
        fixed_ips=[pb.FixedIp(subnet="s1", ip_address="10.0.0.5")],
        **fields,  # type: ignore[arg-type]
    )
    saved(port)
    return port


def wish(host: str, hostname: str = "vm", instance_id: str = "") -> agent.DesiredObject:
    return agent.DesiredObject(
        host=host,
        agent="net",
        kind="port",
        object_id=str(PORT),
        port=agent.PortSpec(hostname=hostname, instance_id=instance_id),
    )


def report(
    host: str,
    generation: int,
    sequence: int,
    *,
    boot_id: str = "b1",
    wired: bool = False,
    absent: bool = False,
    failure: str = "",
) -> agent.Report:
    found = agent.Report(host=host, generation=generation, sequence=sequence, boot_id=boot_id)
    if failure:
        found.failure.reason = failure
    else:
        found.port.CopyFrom(agent.PortObserved(wired=wired, absent=absent))
    return found


def test_addresses_and_mac_are_taken_and_given_back() -> None:
    port = Port.create(
        PORT,
        project_id="p1",
        network_id="n1",
        mac_address="fa:16:3e:00:00:01",
        fixed_ips=[pb.FixedIp(subnet="s1", ip_address="10.0.0.5")],
    )
    assert constrained(port) == [
        CounterAdd("quota/ports", "p1", 1),
        CounterAdd("ports-on-network", "n1", 1),
        UniqueClaim("mac/n1", "fa:16:3e:00:00:01", str(PORT)),
        CounterAdd("ports-on-subnet", "s1", 1),
        UniqueClaim("address/s1", "10.0.0.5", str(PORT)),
    ]
    saved(port)
    port.delete()
    assert constrained(port) == [
        CounterAdd("quota/ports", "p1", -1),
        CounterAdd("ports-on-network", "n1", -1),
        UniqueRelease("mac/n1", "fa:16:3e:00:00:01", str(PORT)),
        CounterAdd("ports-on-subnet", "s1", -1),
        UniqueRelease("address/s1", "10.0.0.5", str(PORT)),
    ]


def test_the_same_wish_again_is_one_wish() -> None:
    port = make()
    first = port.bind("h1", ACTIVE, wish("h1"))
    assert port.bind("h1", ACTIVE, wish("h1")) == first
    assert len(happened(port)) == 1
    assert port.bind("h1", INACTIVE, wish("h1")).generation == 2
    assert port.bind("h1", INACTIVE, wish("h1", "other")).generation == 3


def test_a_wish_that_failed_is_made_anew() -> None:
    port = make()
    port.bind("h1", ACTIVE, wish("h1"))
    port.observe(report("h1", 1, 1, failure="NO_BRIDGE"))
    failure = port.bindings["h1"].failure
    assert failure is not None and failure.reason == "NO_BRIDGE"
    assert port.bind("h1", ACTIVE, wish("h1")).generation == 2
    assert port.bindings["h1"].failure is None, "it is about the wish before"


def test_generations_rise_over_all_hosts() -> None:
    port = make()
    assert port.bind("h1", ACTIVE, wish("h1")).generation == 1
    assert port.bind("h2", INACTIVE, wish("h2")).generation == 2
    unbound = port.unbind("h1")
    assert unbound is not None and (unbound.generation, unbound.absent) == (3, True)
    port.binding_removed("h1")
    assert port.bind("h1", ACTIVE, wish("h1")).generation == 4


def test_a_port_is_wired_once_its_host_says_so_of_what_is_desired_now() -> None:
    port = make()
    port.bind("h1", ACTIVE, wish("h1"))
    assert not port.bindings["h1"].wired
    port.observe(report("h1", 1, 1, wired=True))
    assert port.bindings["h1"].wired
    port.bind("h1", ACTIVE, wish("h1", "other"))
    assert not port.bindings["h1"].wired


def test_reports_that_are_old_or_no_news_leave_no_trace() -> None:
    port = make()
    port.bind("h1", ACTIVE, wish("h1"))
    port.observe(report("h1", 1, 5, wired=True))
    saved(port)
    port.observe(report("h1", 1, 5))  # seen already
    port.observe(report("h1", 1, 4))  # older
    port.observe(report("h1", 1, 6, wired=True))  # nothing new
    port.observe(report("h2", 1, 1, wired=True))  # not bound there
    assert happened(port) == []
    port.observe(report("h1", 1, 1, boot_id="b2"))  # after a reboot
    assert not port.bindings["h1"].wired
    saved(port)
    port.observe(report("h1", 1, 9, boot_id="b1", wired=True))  # of the boot that is over
    port.bind("h1", ACTIVE, wish("h1", "other"))
    saved(port)
    port.observe(report("h1", 1, 2, boot_id="b2", wired=True))  # about the wish before
    assert happened(port) == []


def test_unbinding_ends_when_the_host_confirms() -> None:
    port = make()
    port.bind("h1", ACTIVE, wish("h1"))
    assert port.unbind("h1") == port.unbind("h1")
    port.observe(report("h1", 2, 1, absent=True))
    assert port.bindings["h1"].gone
    port.binding_removed("h1")
    assert port.bindings == {} and port.lingering == {}
    saved(port)
    port.binding_removed("h1")
    assert port.unbind("h1") is None
    assert happened(port) == []


def test_a_host_that_was_away_confirms_late_even_for_a_port_that_is_deleted() -> None:
    port = make(device_id="i1", owned_by_device=True)
    port.bind("h1", ACTIVE, wish("h1", instance_id="i1"))
    port.unbind("h1")
    port.binding_removed("h1")
    port.release_device()
    assert port.deleted
    saved(port)
    port.observe(report("h1", 2, 1, absent=True))
    [observed] = happened(port)
    assert isinstance(observed, events_pb2.PortBindingObserved) and observed.observed.absent
    saved(port)
    port.observe(report("h1", 2, 2, absent=True))
    assert happened(port) == []


def test_what_the_guest_shows_is_an_event_the_first_time() -> None:
    port = make()
    for _ in range(2):
        port.lease_seen("h1", agent.LeaseSeen(ip_address="10.0.0.5", client_hostname="vm"))
        port.address_seen("h1", agent.AddressSeen(ip_address="10.0.0.5"))
    port.address_seen("h1", agent.AddressSeen(ip_address="10.0.0.99"))
    assert [type(message).__name__ for message in happened(port)] == [
        "PortLeaseSeen",
        "PortAddressSeen",
        "PortAddressSeen",
    ]
    assert (port.leased_ips, port.seen_ips) == (["10.0.0.5"], ["10.0.0.5", "10.0.0.99"])


def test_what_one_look_has_shown_is_told_at_once() -> None:
    port = make()
    lease = agent.LeaseSeen(ip_address="10.0.0.5", client_hostname="vm")
    for _ in range(2):
        port.address_seen("h1", agent.AddressSeen(ip_address="10.0.0.5", lease=lease))
    assert happened(port) == [
        events_pb2.PortLeaseSeen(host="h1", ip_address="10.0.0.5", client_hostname="vm"),
        events_pb2.PortAddressSeen(host="h1", ip_address="10.0.0.5"),
    ]


def test_a_port_in_use_is_kept() -> None:
    port = make()
    port.set_device("i1")
    port.set_device("i1")
    assert len(happened(port)) == 1
    with pytest.raises(FailedPrecondition) as caught:
        port.delete()
    assert (caught.value.reason, caught.value.remedy) == ("PORT_IN_USE", "delete the instance first")
    with pytest.raises(FailedPrecondition):
        port.set_device("i2")


def test_an_instance_takes_its_own_port_along_and_frees_another() -> None:
    before = make()
    before.set_device("i1")
    before.release_device()
    assert (before.device_id, before.deleted) == ("", False)
    own = make(device_id="i1", owned_by_device=True)
    own.release_device()
    own.release_device()
    assert own.deleted and len(happened(own)) == 1
    with pytest.raises(NotFound):
        own.bind("h1", ACTIVE, wish("h1"))


def test_only_the_instance_that_has_the_port_binds_it() -> None:
    port = make()
    port.set_device("i1")
    with pytest.raises(FailedPrecondition):
        port.bind("h1", ACTIVE, wish("h1", instance_id="i2"))
    port.release_device()
    with pytest.raises(FailedPrecondition):
        port.bind("h1", ACTIVE, wish("h1", instance_id="i1"))


def test_a_binding_that_comes_after_its_unbinding_is_refused() -> None:
    port = make()
    first, second = Turn("t1", 1), Turn("t1", 2)
    absent = port.unbind("h1", first)
    assert absent is not None and absent.absent, "also where it was never bound"
    assert port.unbind("h1", first) == absent
    port.binding_removed("h1")
    with pytest.raises(FailedPrecondition):
        port.bind("h1", ACTIVE, wish("h1"), first)
    assert port.bind("h1", ACTIVE, wish("h1"), second).generation == 2
    assert port.bind("h2", ACTIVE, wish("h2"), Turn("t2", 1)).generation == 3


def test_an_unbinding_that_comes_late_leaves_a_later_binding() -> None:
    port = make()
    port.bind("h1", ACTIVE, wish("h1"), Turn("t1", 1))
    port.unbind("h1", Turn("t1", 1))
    port.binding_removed("h1")
    port.bind("h1", ACTIVE, wish("h1"), Turn("t1", 2))
    assert port.unbind("h1", Turn("t1", 1)) is None
    assert not port.bindings["h1"].desired.absent


def test_a_port_knows_the_floating_ips_that_lead_to_it() -> None:
    port = make()
    port.add_floating_ip(pb.PortFloatingIp(floating_ip="f1", floating_ip_address="203.0.113.7"))
    assert port.floating_ips == {"f1": ""}
    port.remove_floating_ip("f2")
    assert len(happened(port)) == 1
    port.remove_floating_ip("f1")
    assert port.floating_ips == {} and isinstance(happened(port)[1], events_pb2.PortFloatingIpRemoved)
    port.delete()
    port.remove_floating_ip("f1")
    with pytest.raises(NotFound):
        port.add_floating_ip(pb.PortFloatingIp(floating_ip="f1"))


def secured(*groups: str, enabled: bool = True, pairs: tuple[pb.AddressPair, ...] = ()) -> PortSecurity:
    return PortSecurity(enabled=enabled, group_ids=groups, pairs=pairs)


def test_a_group_is_in_use_by_its_ports() -> None:
    port = make(security=secured("g1", "g2"))
    port.update(replace(port.terms, security=secured("g2", "g3")))
    assert constrained(port) == [
        CounterAdd("ports-in-security-group", "g3", 1),
        CounterAdd("ports-in-security-group", "g1", -1),
    ]
    saved(port)
    port.delete()
    groups = [row for row in constrained(port) if isinstance(row, CounterAdd) and "security-group" in row.scope]
    assert groups == [CounterAdd("ports-in-security-group", group, -1) for group in ("g2", "g3")]


def test_where_it_is_bound_it_is_renewed_in_the_same_append() -> None:
    port = make(security=secured("g1"), device_id="i1")
    port.bind("h1", ACTIVE, wish("h1", instance_id="i1"))
    port.bind("h2", INACTIVE, wish("h2", instance_id="i1"))
    port.unbind("h2")
    saved(port)
    pair = pb.AddressPair(ip_address="10.0.0.9")
    port.update(replace(port.terms, security=secured("g2", pairs=(pair,))))
    updated, renewed = happened(port)
    assert isinstance(updated, events_pb2.PortUpdated)
    assert updated.update_mask.paths == ["security_groups", "allowed_address_pairs"]
    assert isinstance(renewed, events_pb2.PortBindingDesired)
    assert (renewed.host, renewed.state, renewed.desired.generation) == ("h1", ACTIVE, 4)
    spec = renewed.desired.port
    assert (list(spec.security_group_ids), spec.allowed_address_pairs[0].ip_address) == (["g2"], "10.0.0.9")
    assert not spec.unguarded
    saved(port)
    port.update(replace(port.terms, security=secured("g2", pairs=(pair,))))
    assert happened(port) == [], "nothing has changed"
    port.update(replace(port.terms, security=OFF))
    assert port.bindings["h1"].desired.port.unguarded
    assert not port.bindings["h1"].desired.port.security_group_ids


def fixed(address: str, subnet: str = "s1") -> pb.FixedIp:
    return pb.FixedIp(subnet=subnet, ip_address=address)


def test_addresses_that_come_are_taken_and_those_that_go_given_back() -> None:
    port = make()
    port.lease_seen("h1", agent.LeaseSeen(ip_address="10.0.0.5"))
    saved(port)
    port.update(replace(port.terms, fixed_ips=(fixed("10.1.0.9", "s2"), fixed("10.0.0.5"))))
    assert constrained(port) == [
        CounterAdd("ports-on-subnet", "s2", 1),
        UniqueClaim("address/s2", "10.1.0.9", str(PORT)),
    ], "what it keeps is not claimed again"
    saved(port)
    port.update(replace(port.terms, fixed_ips=(fixed("10.1.0.9", "s2"),)))
    assert constrained(port) == [
        CounterAdd("ports-on-subnet", "s1", -1),
        UniqueRelease("address/s1", "10.0.0.5", str(PORT)),
    ]
    assert port.leased_ips == [], "it is seen anew if it comes again"
    saved(port)
    port.delete()
    assert UniqueRelease("address/s2", "10.1.0.9", str(PORT)) in constrained(port)


def test_its_hosts_are_told_its_addresses_and_bandwidth() -> None:
    port = make(device_id="i1")
    port.bind("h1", ACTIVE, wish("h1", instance_id="i1"))
    saved(port)
    limits = pb.BandwidthLimits(egress_kbps=1000)
    port.update(replace(port.terms, display_name="front", qos=limits, fixed_ips=(fixed("10.0.0.6"),)))
    updated, renewed = happened(port)
    assert isinstance(updated, events_pb2.PortUpdated) and isinstance(renewed, events_pb2.PortBindingDesired)
    assert updated.update_mask.paths == ["display_name", "fixed_ips", "qos"]
    told = renewed.desired.port
    assert [each.ip_address for each in told.addresses] == ["10.0.0.6"] and told.bandwidth.egress_kbps == 1000
    saved(port)
    port.update(replace(port.terms, display_name="back"))
    assert len(happened(port)) == 1, "no host need know what it is called"


def test_an_address_that_a_floating_ip_leads_to_is_kept() -> None:
    port = make()
    port.add_floating_ip(pb.PortFloatingIp(floating_ip="f1", fixed_ip_address="10.0.0.5"))
    with pytest.raises(FailedPrecondition, match=r"port\.fixed_ips: floating IP f1 leads to 10\.0\.0\.5") as caught:
        port.update(replace(port.terms, fixed_ips=(fixed("10.0.0.6"),)))
    assert caught.value.reason == "FLOATING_IP_LEADS_THERE"
    port.update(replace(port.terms, fixed_ips=(fixed("10.0.0.6"), fixed("10.0.0.5"))))
    port.remove_floating_ip("f1")
    port.update(replace(port.terms, fixed_ips=(fixed("10.0.0.6"),)))
    assert [each.ip_address for each in port.fixed_ips] == ["10.0.0.6"]
