from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from cirra.agent.v1 import desired_pb2
from core.errors import InvalidArgument
from net_agent.model import network_from_spec, network_to_spec, port_from_spec, port_to_spec

PORT_ID = "01920000-0000-7000-8000-00000000cc01"
NETWORK_ID = "01920000-0000-7000-8000-00000000aa01"
SUBNET_ID = "01920000-0000-7000-8000-00000000bb01"


def spec() -> desired_pb2.PortSpec:
    subnet = desired_pb2.SubnetSpec(
        subnet_id=SUBNET_ID,
        cidr="10.0.0.0/24",
        gateway_ip="10.0.0.1",
        dhcp_ip="10.0.0.2",
        dns_nameservers=["9.9.9.9"],
    )
    network = desired_pb2.NetworkSpec(
        network_id=NETWORK_ID, generation=3, bridge="brq0000000aa01", subnets=[subnet], dns_domain="cloud.example."
    )
    return desired_pb2.PortSpec(
        port_id=PORT_ID,
        mac_address="FA:16:3E:00:00:01",
        device="tap0000000cc01",
        hostname="demo",
        network=network,
        addresses=[desired_pb2.PortAddress(subnet_id=SUBNET_ID, ip_address="10.0.0.11")],
        active=True,
    )


def test_a_spec_becomes_typed_and_normal() -> None:
    port = port_from_spec(spec())
    assert port.mac_address == "fa:16:3e:00:00:01"
    assert port.addresses == (IPv4Address("10.0.0.11"),)
    assert (port.network.mtu, port.network.dns_domain) == (1500, "cloud.example")
    assert port.network.dhcp_subnets == port.network.subnets
    assert port.network.subnets[0].dns_nameservers == (IPv4Address("9.9.9.9"),)


def test_a_port_survives_its_record() -> None:
    port = port_from_spec(spec())
    assert port_from_spec(port_to_spec(port)) == port
    assert network_from_spec(network_to_spec(port.network)) == port.network


def test_a_subnet_without_dhcp_is_none_to_serve() -> None:
    bare = spec()
    bare.network.subnets[0].dhcp_ip = ""
    bare.network.subnets[0].gateway_ip = ""
    network = port_from_spec(bare).network
    assert network.dhcp_subnets == () and network.subnets[0].gateway_ip is None


@pytest.mark.parametrize(
    ("field", "value", "violated"),
    [
        ("port_id", "../../etc", "port.port_id"),
        ("mac_address", "fa:16:3e:00:00", "port.mac_address"),
        ("mac_address", "fa:16:3e:00:00:01\nignore", "port.mac_address"),
        ("device", "eth0", "port.device"),
        ("device", "tap0123456789abc", "port.device"),
        ("hostname", "demo,10.0.0.99", "port.hostname"),
        ("hostname", "demo\n", "port.hostname"),
        ("hostname", "-demo", "port.hostname"),
    ],
)
def test_what_could_be_read_as_something_else_is_refused(field: str, value: str, violated: str) -> None:
    bad = spec()
    setattr(bad, field, value)
    with pytest.raises(InvalidArgument) as refused:
        port_from_spec(bad)
    assert [violation.field for violation in refused.value.violations] == [violated]


@pytest.mark.parametrize(
    ("field", "value", "violated"),
    [
        ("bridge", "eth0", "port.network.bridge"),
        ("dns_domain", "a b", "port.network.dns_domain"),
        ("mtu", 100, "port.network.mtu"),
        ("network_id", "", "port.network.network_id"),
    ],
)
def test_a_bad_network_is_refused(field: str, value: object, violated: str) -> None:
    bad = spec()
    setattr(bad.network, field, value)
    with pytest.raises(InvalidArgument) as refused:
        port_from_spec(bad)
    assert [violation.field for violation in refused.value.violations] == [violated]


def test_all_violations_are_named_at_once() -> None:
    bad = spec()
    bad.network.subnets[0].cidr = "10.0.0.1/24"
    bad.network.subnets[0].dhcp_ip = "fe80::1"
    bad.addresses[0].ip_address = "10.0.0.256"
    with pytest.raises(InvalidArgument) as refused:
        port_from_spec(bad)
    assert {violation.field for violation in refused.value.violations} == {
        "port.addresses",
        "port.network.subnets.cidr",
        "port.network.subnets.dhcp_ip",
    }
