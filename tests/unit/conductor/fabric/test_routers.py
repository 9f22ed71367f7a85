"""Routers, floating IPs and gateways of hosts: who has them, and what they are told."""

from __future__ import annotations

from uuid import UUID

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import given, settings
from hypothesis import strategies as st

from cirra.network.v1 import events_pb2 as network
from core.ids import bridge_device
from tests.harness.fabric_history import ACTIVE, FLAT, INACTIVE, VXLAN, uid
from tests.unit.conductor.fabric.routed_history import RoutedHistory


@pytest.fixture
def history() -> RoutedHistory:
    """Hosts a, b, c; router `r` joins networks `n` and `m`, out by `x`; a port of `n` on `a`, one of `m` on `b`."""
    made = RoutedHistory()
    for host in "abc":
        made.host(host)
    for name in ("n", "m", "o"):
        made.network(name, VXLAN)
    made.network("x", FLAT)
    message = network.SubnetCreated(
        network_id=uid("x"),
        subnet_id=uid("x-s"),
        cidr="203.0.113.0/24",
        gateway_ip="203.0.113.1",
        dhcp_ip="203.0.113.2",
    )
    made.happens("network", UUID(uid("x")), message)
    made.bind("p", "a", "n")
    made.bind("q", "b", "m")
    made.router("r")
    made.interface("r", "n")
    made.interface("r", "m", "10.1.0.1", "10.1.0.0/24")
    made.gateway("r", "x")
    return made


def test_hosts_with_one_of_its_networks_have_it_all(history: RoutedHistory) -> None:
    for kind, name in (("router", "r"), ("network", "n"), ("network", "m"), ("network", "x")):
        assert history.hosts_with(kind, name) == "ab", name
    assert history.has("a", "peer", "q") and history.has("b", "peer", "p"), "to route to them"
    assert not any(host == "c" for host, _, _ in history.rows)


def test_what_a_host_is_told(history: RoutedHistory) -> None:
    history.routes("r", ("10.9.0.0/16", "10.0.0.99"))
    history.host_gateway("a", "x", "203.0.113.50/24")
    spec = history.spec("a", "r")
    assert [(each.address, each.bridge, each.mtu) for each in spec.interfaces] == [
        ("10.0.0.1/24", bridge_device(uid("n")), 1500),
        ("10.1.0.1/24", bridge_device(uid("m")), 1500),
    ]
    assert [(route.destination, route.next_hop) for route in spec.routes] == [("10.9.0.0/16", "10.0.0.99")]
    assert (spec.gateway.network_id, spec.gateway.bridge) == (uid("x"), bridge_device(uid("x")))
    assert list(spec.gateway.host_addresses) == ["203.0.113.50/24"] and spec.gateway.host_mac_address
    assert list(spec.gateway.next_hops) == ["203.0.113.1"] and spec.gateway.snat
    assert not history.spec("b", "r").gateway.host_mac_address, "another host's is not its own"


def test_each_change_goes_to_the_hosts_concerned_alone(history: RoutedHistory) -> None:
    ours = {("a", "router", uid("r")), ("b", "router", uid("r"))}
    history.snat("r", enabled=False)
    assert history.touched == ours and not history.spec("a", "r").gateway.snat
    history.routes("r", ("10.9.0.0/16", "10.0.0.99"))
    assert history.touched == ours
    history.host_gateway("b", "x")
    assert history.touched == {("b", "router", uid("r"))}
    history.no_gateway("r", "x")
    assert history.touched == ours | {(host, "network", uid("x")) for host in "ab"}
    assert not history.spec("a", "r").HasField("gateway")


def test_a_router_changes_with_its_networks(history: RoutedHistory) -> None:
    ours = {("a", "router", uid("r")), ("b", "router", uid("r"))}
    mtu = network.NetworkUpdated(mtu=1400, update_mask=FieldMask(paths=["mtu"]))
    history.happens("network", UUID(uid("m")), mtu)
    assert ours < history.touched and [each.mtu for each in history.spec("a", "r").interfaces] == [1500, 1400]
    history.happens("network", UUID(uid("x")), network.SubnetDeleted(network_id=uid("x"), subnet_id=uid("x-s")))
    assert ours < history.touched and not history.spec("a", "r").gateway.next_hops


def test_the_last_port_takes_router_and_networks_along(history: RoutedHistory) -> None:
    history.unbind("q", "b")
    for kind, name in (("router", "r"), ("network", "n"), ("network", "m"), ("network", "x")):
        assert history.hosts_with(kind, name) == "a", name
    history.no_port("p")
    assert not history.present()


def test_routers_in_a_row_are_all_there_and_part_where_they_are_parted(history: RoutedHistory) -> None:
    history.router("t")
    history.interface("t", "o")
    history.bind("w", "c", "o")
    assert history.hosts_with("router", "t") == "c" and history.hosts_with("router", "r") == "ab"
    history.interface("t", "m", "10.1.0.99", "10.1.0.0/24")
    for name in ("r", "t"):
        assert history.hosts_with("router", name) == "abc", name
    assert history.hosts_with("network", "n") == "abc" == history.hosts_with("network", "o")
    history.unbind("p", "a")
    assert history.hosts_with("router", "t") == "bc"
    history.no_interface("t", "m")
    assert (history.hosts_with("router", "t"), history.hosts_with("router", "r")) == ("c", "b")
    assert (history.hosts_with("network", "o"), history.hosts_with("network", "n")) == ("c", "b")


def test_out_of_an_external_network_nothing_follows(history: RoutedHistory) -> None:
    history.bind("w", "c", "x")
    assert history.hosts_with("network", "x") == "abc" and history.hosts_with("router", "r") == "ab"
    history.router("t")
    history.interface("t", "o")
    history.gateway("t", "x")
    assert history.hosts_with("router", "t") == "", "no port of its network is anywhere"


def test_a_floating_ip_is_on_the_host_of_its_port(history: RoutedHistory) -> None:
    history.floating_ip("f", "x")
    assert history.hosts_with("floating-ip", "f") == ""
    history.associate("f", "p")
    assert history.touched == {("a", "floating-ip", uid("f"))}
    found = history.object("a", "floating-ip", "f")
    assert found is not None
    spec = found.floating_ip
    assert (spec.floating_ip_address, spec.fixed_ip_address) == ("203.0.113.7", "10.0.0.9")
    assert (spec.port_id, spec.router_id, spec.external_network_id) == (uid("p"), uid("r"), uid("x"))
    history.bind("p", "c", "n", INACTIVE)
    assert history.hosts_with("floating-ip", "f") == "a", "the guest is still there"
    history.bind("p", "c", "n", ACTIVE)
    history.bind("p", "a", "n", INACTIVE)
    assert history.hosts_with("floating-ip", "f") == "c"
    history.unbind("p", "a")
    history.disassociate("f")
    history.associate("f", "q")
    assert history.hosts_with("floating-ip", "f") == "b"
    history.no_port("q")
    assert history.hosts_with("floating-ip", "f") == ""
    facts = history.derivation.facts.floating_ips.get(uid("f"))
    assert facts is not None and facts.orphaned, "whoever tidies up finds it"
    history.disassociate("f")
    facts = history.derivation.facts.floating_ips.get(uid("f"))
    assert facts is not None and not facts.orphaned and not facts.port_id
    history.no_floating_ip("f")
    assert history.derivation.facts.floating_ips.get(uid("f")) is None


def _costs(others: int) -> list[int]:
    """How many rows are looked at for each of some changes, beside so many hosts with a router of their own."""
    history, costs = RoutedHistory(), []
    for name in ("n", "other"):
        history.network(name, VXLAN)
    history.network("x")
    for router, on in (("r", "n"), ("s", "other")):
        history.router(router)
        history.interface(router, on)
        history.gateway(router, "x")
    for number in range(others):
        history.host(f"h{number}")
        history.bind(f"o{number}", f"h{number}", "other")
    history.host("a")
    history.bind("p", "a", "n")
    history.floating_ip("f", "x")
    for change in (
        lambda: history.associate("f", "p"),
        lambda: history.host_gateway("a", "x"),
        lambda: history.routes("r", ("10.9.0.0/16", "10.0.0.99")),
        lambda: history.unbind("p", "a"),
    ):
        change()
        costs.append(history.looked)
    return costs


def test_the_cost_of_a_change_does_not_grow_with_hosts_that_don_t_have_the_router() -> None:
    alone = _costs(0)
    assert all(0 < cost <= 8 for cost in alone), alone
    assert _costs(60) == alone


NETWORKS, ROUTERS, HOSTS, PORTS = ["n1", "n2", "n3"], ["r1", "r2", "r3"], "abc", ["p1", "p2", "p3"]
STEP = st.one_of(
    st.tuples(st.just("bind"), st.sampled_from(PORTS), st.sampled_from(HOSTS), st.sampled_from([ACTIVE, INACTIVE])),
    st.tuples(st.just("unbind"), st.sampled_from(PORTS), st.sampled_from(HOSTS)),
    st.tuples(st.just("no_port"), st.sampled_from(PORTS)),
    st.tuples(st.just("interface"), st.sampled_from(ROUTERS), st.sampled_from(NETWORKS)),
    st.tuples(st.just("no_interface"), st.sampled_from(ROUTERS), st.sampled_from(NETWORKS)),
    st.tuples(st.just("gateway"), st.sampled_from(ROUTERS), st.just("x")),
    st.tuples(st.just("no_gateway"), st.sampled_from(ROUTERS), st.just("x")),
    st.tuples(st.just("translates"), st.sampled_from(ROUTERS), st.booleans()),
    st.tuples(st.just("host_gateway"), st.sampled_from(HOSTS), st.just("x"), st.sampled_from(["", "203.0.113.9/24"])),
    st.tuples(st.just("no_host_gateway"), st.sampled_from(HOSTS), st.just("x")),
    st.tuples(st.just("associate"), st.sampled_from(["f1", "f2"]), st.sampled_from(PORTS)),
    st.tuples(st.just("disassociate"), st.sampled_from(["f1", "f2"])),
    st.tuples(st.just("subnet"), st.sampled_from([*NETWORKS, "x"])),
)


@settings(max_examples=150)
@given(st.lists(STEP, max_size=40))
def test_whatever_happens_the_rows_are_those_of_a_fresh_derivation(steps: list[tuple[object, ...]]) -> None:
    history = RoutedHistory()
    for name in (*NETWORKS, "x"):
        history.network(name)
    for name in ROUTERS:
        history.router(name)
    for name in ("f1", "f2"):
        history.floating_ip(name, "x")
    for number, (verb, *arguments) in enumerate(steps):
        if verb == "bind":
            port, host, state = arguments
            history.bind(str(port), str(host), NETWORKS[PORTS.index(str(port))], state)  # type: ignore[arg-type]
        elif verb == "translates":
            history.snat(str(arguments[0]), enabled=bool(arguments[1]))
        elif verb == "subnet":
            history.subnet(f"subnet-{number}", str(arguments[0]))
        else:
            getattr(history, str(verb))(*arguments)
        assert history.present() == history.derived_afresh()
        assert _joined_by_ports_alone(history), "networks don't hold one another"
        assert _ways_out(history) == {(way.host, way.network_id, way.snat) for way in history.derivation.facts.ways_out}
    assert history.replayed().rows == history.rows


def _ways_out(history: RoutedHistory) -> set[tuple[str, str, bool]]:
    """By what hosts are told."""
    told: dict[tuple[str, str], bool] = {}
    for host, kind, object_id in history.present():
        found = history.derivation.facts.routers.get(object_id) if kind == "router" else None
        if found is not None and found.gateway:
            told[host, found.gateway] = told.get((host, found.gateway), False) or found.enable_snat
    return {(host, network_id, snat) for (host, network_id), snat in told.items()}


def _joined_by_ports_alone(history: RoutedHistory) -> bool:
    """A host without ports has nothing."""
    facts = history.derivation.facts
    with_ports = {binding.host for binding in facts.bindings}
    return {reason.host for reason in facts.reasons} <= with_ports
