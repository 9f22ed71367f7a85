"""Networks, subnets and ports, from their events."""

from __future__ import annotations

from uuid import uuid4

from api_gateway.views.network import NETWORK, PORT, SUBNET
from cirra.agent.v1 import desired_pb2 as agent
from cirra.network.v1 import events_pb2 as network_events
from cirra.network.v1 import network_pb2 as network
from tests.unit.api_gateway.history import History, row_of


def test_subnets_are_rows_of_their_own_on_the_network_s_stream(history: History) -> None:
    uid = uuid4()
    history.add_all(
        "network",
        uid,
        network_events.NetworkCreated(project_id="p1", display_name="lan", mtu=1500, shared=True),
        network_events.SubnetCreated(subnet_id="s1", network_id=str(uid), project_id="p1", cidr="10.0.0.0/24"),
        network_events.SubnetCreated(subnet_id="s2", network_id=str(uid), project_id="p1", gateway_ip="10.1.0.1"),
    )
    subnet = row_of(history, SUBNET, "s1").resource
    assert (subnet.name, subnet.network, subnet.cidr) == ("projects/p1/subnets/s1", str(uid), "10.0.0.0/24")
    assert subnet.no_gateway and not row_of(history, SUBNET, "s2").resource.no_gateway
    assert list(row_of(history, NETWORK, uid).resource.subnets) == ["s1", "s2"]
    history.add("network", uid, network_events.SubnetDeleted(subnet_id="s1"))
    assert row_of(history, SUBNET, "s1").deleted
    assert not row_of(history, SUBNET, "s2").deleted
    assert list(row_of(history, NETWORK, uid).resource.subnets) == ["s2"]
    assert NETWORK.columns(row_of(history, NETWORK, uid).resource).public


def test_an_external_network_is_seen_by_all(history: History) -> None:
    external, inner = uuid4(), uuid4()
    history.add("network", external, network_events.NetworkCreated(project_id="p1", external=True))
    history.add("network", inner, network_events.NetworkCreated(project_id="p1"))
    assert NETWORK.columns(row_of(history, NETWORK, external).resource).public
    assert not NETWORK.columns(row_of(history, NETWORK, inner).resource).public


def test_a_port_is_active_when_wired_where_its_active_binding_is(history: History) -> None:
    uid = uuid4()
    history.add("port", uid, network_events.PortCreated(network_id="n1", device_id="i1"))

    def binding(host: str, state: network.PortBindingState.ValueType) -> network_events.PortBindingDesired:
        return network_events.PortBindingDesired(host=host, state=state)

    def wired(host: str, yes: bool = True) -> network_events.PortBindingObserved:
        return network_events.PortBindingObserved(host=host, observed=agent.PortObserved(wired=yes))

    def status() -> network.PortStatus.ValueType:
        found: network.PortStatus.ValueType = row_of(history, PORT, uid).resource.status
        return found

    history.add("port", uid, binding("h1", network.PORT_BINDING_STATE_ACTIVE))
    assert status() == network.PORT_STATUS_DOWN
    history.add("port", uid, wired("h1"))
    assert status() == network.PORT_STATUS_ACTIVE
    history.add_all("port", uid, binding("h2", network.PORT_BINDING_STATE_INACTIVE), wired("h2"))
    history.add("port", uid, network_events.PortBindingRemoved(host="h1"))
    assert status() == network.PORT_STATUS_DOWN
    history.add("port", uid, binding("h2", network.PORT_BINDING_STATE_ACTIVE))
    assert status() == network.PORT_STATUS_ACTIVE
    failed = network_events.PortBindingObserved(host="h2", failure=agent.Failure(reason="X"))
    history.add("port", uid, failed)
    assert status() == network.PORT_STATUS_ERROR
    history.add("port", uid, wired("h3"))
    assert "h3" not in row_of(history, PORT, uid).resource.bindings
    assert PORT.columns(row_of(history, PORT, uid).resource).about == "i1"


def test_a_port_that_loses_an_address_was_not_seen_with_it(history: History) -> None:
    uid = uuid4()
    old, new = (network.FixedIp(subnet="s1", ip_address=address) for address in ("10.0.0.5", "10.0.0.6"))
    limits = network.BandwidthLimits(egress_kbps=1000)
    history.add_all(
        "port",
        uid,
        network_events.PortCreated(network_id="n1", fixed_ips=[old], qos=limits),
        network_events.PortLeaseSeen(ip_address="10.0.0.5"),
        network_events.PortAddressSeen(ip_address="10.0.0.5"),
        network_events.PortUpdated(display_name="front", fixed_ips=[old, new], qos=limits),
    )
    port = row_of(history, PORT, uid).resource
    assert (port.display_name, port.leased_ip, port.seen_ip) == ("front", "10.0.0.5", "10.0.0.5")
    assert port.qos == limits
    history.add("port", uid, network_events.PortUpdated(fixed_ips=[new], released_fixed_ips=[old]))
    port = row_of(history, PORT, uid).resource
    assert list(port.fixed_ips) == [new]
    assert (port.leased_ip, port.seen_ip) == ("", "")
    assert not any(port.HasField(field) for field in ("lease_time", "seen_time", "qos"))
