from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cirra.agent.v1 import desired_pb2 as agent
from conductor.fabric.rows import ERA, Row, after, kept_after
from tests.harness.fabric_history import ACTIVE, FLAT, INACTIVE, VXLAN, History, uid


@pytest.fixture
def history() -> History:
    """Three hosts, a VXLAN network `n` with a port on `a`."""
    made = History()
    for number, host in enumerate("abc", 1):
        made.host(host, f"192.0.2.{number}")
    made.network("n", VXLAN)
    made.subnet("s", "n")
    made.bind("p", "a", "n")
    return made


def test_a_host_with_a_port_has_its_network_and_no_other_does(history: History) -> None:
    assert history.has("a", "network", "n")
    assert {host for host, _, _ in history.rows} == {"a"}


def test_two_hosts_of_a_network_are_each_others_peers(history: History) -> None:
    history.bind("q", "b", "n", address="10.0.0.10")
    seen = history.object("a", "peer", "q")
    assert seen is not None
    assert (seen.peer.host, seen.peer.tunnel_address) == ("b", "192.0.2.2")
    assert (seen.peer.mac_address, list(seen.peer.ip_addresses)) == ("fa:16:3e:00:00:01", ["10.0.0.10"])
    assert seen.peer.hostname == "q"
    assert history.has("b", "peer", "p")
    assert history.object("a", "peer", "p") is None, "its own port is no peer"
    assert {host for host, _, _ in history.rows} == {"a", "b"}


def test_others_are_told_of_a_port_s_other_address(history: History) -> None:
    history.bind("q", "b", "n", address="10.0.0.10")
    history.bind("q", "b", "n", address="10.0.0.99")
    assert history.touched == {("a", "peer", uid("q"))}
    seen = history.object("a", "peer", "q")
    assert seen is not None and list(seen.peer.ip_addresses) == ["10.0.0.99"]


def test_the_generation_is_the_position_of_the_event_that_changed_it(history: History) -> None:
    history.bind("q", "b", "n")
    bound = len(history.events)
    for host, name in (("a", "q"), ("b", "p")):
        seen = history.object(host, "peer", name)
        assert seen is not None and seen.generation == bound
    history.bind("q", "b", "n")
    assert not history.touched, "the same wish again changes no row"


def test_peers_have_no_tunnel_where_there_is_none(history: History) -> None:
    history.network("flat", FLAT)
    history.bind("x", "a", "flat")
    history.bind("y", "b", "flat")
    seen = history.object("a", "peer", "y")
    assert seen is not None and (seen.peer.host, seen.peer.tunnel_address) == ("b", "")


def test_a_host_that_moves_its_tunnels_changes_the_peers_of_its_ports_alone(history: History) -> None:
    history.bind("q", "b", "n")
    history.network("flat", FLAT)
    history.bind("x", "b", "flat")
    history.bind("y", "a", "flat")
    history.tunnel("b", "192.0.2.99")
    assert history.touched == {("a", "peer", uid("q"))}
    seen = history.object("a", "peer", "q")
    assert seen is not None and seen.peer.tunnel_address == "192.0.2.99"
    history.tunnel("b", "192.0.2.99")
    assert history.looked == 0, "an inventory that says nothing new costs nothing"


def test_while_a_guest_moves_peers_point_to_the_active_binding(history: History) -> None:
    history.bind("q", "b", "n")
    history.bind("q", "c", "n", INACTIVE)
    for host in "ac":
        seen = history.object(host, "peer", "q")
        assert seen is not None and seen.peer.host == "b", "the guest is still there"
    assert history.has("c", "peer", "p"), "where it comes to is ready"
    history.bind("q", "c", "n", ACTIVE)
    history.bind("q", "b", "n", INACTIVE)
    for host in "ab":
        seen = history.object(host, "peer", "q")
        assert seen is not None and seen.peer.host == "c"
    assert not history.has("c", "peer", "q")
    history.unbind("q", "b")
    assert not history.has("b", "peer", "q") and not history.has("b", "network", "n")
    assert history.has("a", "peer", "q")


def test_the_last_port_takes_the_network_along_and_peers_go_with_their_port(history: History) -> None:
    history.bind("q", "b", "n")
    history.unbind("q", "b")
    gone = len(history.events)
    for host, kind, name in (("b", "network", "n"), ("b", "peer", "p"), ("a", "peer", "q")):
        seen = history.object(host, kind, name)
        assert seen is not None and seen.absent and seen.generation == gone, (host, kind)
        assert seen.WhichOneof("spec") is None
    history.bind("q", "b", "n")
    assert history.has("b", "network", "n") and history.has("b", "peer", "p") and history.has("a", "peer", "q")


def test_a_second_port_of_a_host_changes_nothing_there(history: History) -> None:
    history.bind("q", "b", "n")
    history.bind("p2", "a", "n")
    assert history.touched == {("b", "peer", uid("p2"))}
    history.no_port("p2")
    assert history.touched == {("b", "peer", uid("p2"))}
    assert history.has("a", "network", "n")


def test_a_change_of_a_network_goes_to_its_hosts(history: History) -> None:
    history.subnet("s2", "n", "10.1.0.0/24")
    assert history.touched == {("a", "network", uid("n"))}
    seen = history.object("a", "network", "n")
    assert seen is not None
    assert [subnet.cidr for subnet in seen.network.subnets] == ["10.0.0.0/24", "10.1.0.0/24"]
    assert seen.network.generation == 3, "the network's own, as in a port's command"
    assert seen.network.kind == agent.NETWORK_KIND_VXLAN


def _costs(others: int) -> list[int]:
    """How many rows are looked at for each of some changes, beside so many hosts with another network."""
    history, costs = History(), []
    history.network("n", VXLAN)
    history.network("other", VXLAN)
    for number in range(others):
        history.host(f"h{number}")
        history.bind(f"o{number}", f"h{number}", "other")
    history.bind("p", "a", "n")
    for change in (
        lambda: history.bind("q", "b", "n"),
        lambda: history.subnet("s", "n"),
        lambda: history.tunnel("b", "192.0.2.7"),
        lambda: history.unbind("q", "b"),
    ):
        change()
        costs.append(history.looked)
    return costs


def test_the_cost_of_a_change_does_not_grow_with_hosts_that_don_t_have_the_network() -> None:
    alone = _costs(0)
    assert all(0 < cost <= 5 for cost in alone), alone
    assert _costs(60) == alone


def test_rows_of_what_is_gone_are_kept_for_at_least_one_era() -> None:
    assert kept_after(1) == kept_after(2 * ERA - 1) == 0
    assert kept_after(2 * ERA) == ERA
    for position in range(0, 10 * ERA, 777):
        assert position - 2 * ERA <= kept_after(position) <= max(0, position - ERA)


def test_a_row_is_untouched_by_what_finds_it_as_it_is(history: History) -> None:
    assert after(None, []) is None
    row = Row(4, b"spec")
    [look] = [look for look in history.derivation.everything() if look.key[1] == "network"]
    assert look.spec is not None
    same = Row(4, look.spec)
    assert after(same, [look]) is same
    assert after(row, [look]) == Row(0, look.spec)


HOSTS, PORTS, NETWORKS = "abcd", ["p1", "p2", "p3", "p4"], ["n1", "n2"]
STEP = st.one_of(
    st.tuples(st.just("bind"), st.sampled_from(PORTS), st.sampled_from(HOSTS), st.sampled_from([ACTIVE, INACTIVE])),
    st.tuples(st.just("unbind"), st.sampled_from(PORTS), st.sampled_from(HOSTS)),
    st.tuples(st.just("no_port"), st.sampled_from(PORTS)),
    st.tuples(st.just("tunnel"), st.sampled_from(HOSTS), st.sampled_from(["", "192.0.2.1", "192.0.2.2"])),
    st.tuples(st.just("subnet"), st.sampled_from(NETWORKS)),
)


@settings(max_examples=150)
@given(st.lists(STEP, max_size=40))
def test_whatever_happens_the_rows_are_those_of_a_fresh_derivation(steps: list[tuple[object, ...]]) -> None:
    history = History()
    history.network("n1", VXLAN)
    history.network("n2", FLAT)
    for number, (verb, *arguments) in enumerate(steps):
        if verb == "bind":
            port, host, state = arguments
            network = NETWORKS[PORTS.index(str(port)) % 2]
            history.bind(str(port), str(host), network, state)  # type: ignore[arg-type]
        elif verb == "subnet":
            history.subnet(f"s{number}", str(arguments[0]))
        else:
            getattr(history, str(verb))(*arguments)
        assert history.present() == history.derived_afresh()
        assert all(history.rows[key].generation == len(history.events) for key in history.touched)
    again = history.replayed()
    assert again.rows == history.rows
