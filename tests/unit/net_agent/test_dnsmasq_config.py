from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path

from net_agent.drivers.linux.dhcp_link import inner_device
from net_agent.drivers.linux.dnsmasq_config import NetworkPaths, command, files, host_name, pid_marker
from net_agent.model import Route, Subnet
from tests.unit.net_agent.samples import NETWORK, SUBNET, make_port

PATHS = NetworkPaths(Path("/state/networks/n"))


def test_hosts_are_the_active_ports() -> None:
    wanted = files(NETWORK, [make_port(12), make_port(11), make_port(13, active=False)])
    assert wanted.hosts.splitlines() == [
        "fa:16:3e:00:00:0b,10.0.0.11,guest-11.novalocal",
        "fa:16:3e:00:00:0c,10.0.0.12,guest-12.novalocal",
    ]
    assert wanted.names.splitlines()[:2] == [
        "10.0.0.11 guest-11.novalocal guest-11",
        "10.0.0.12 guest-12.novalocal guest-12",
    ]


def test_an_address_outside_of_every_dhcp_range_has_a_name_and_no_lease() -> None:
    wanted = files(NETWORK, [make_port(11, addresses=(IPv4Address("192.0.2.1"),))])
    assert wanted.hosts == ""
    assert "192.0.2.1 guest-11.novalocal" in wanted.names


def test_options_repeat_the_default_route_for_those_who_take_121() -> None:
    assert files(NETWORK, []).options.splitlines() == [
        "tag:subnet-0000000bb01,option:router,10.0.0.1",
        "tag:subnet-0000000bb01,option:dns-server,10.0.0.2",
        "tag:subnet-0000000bb01,option:mtu,1450",
        "tag:subnet-0000000bb01,option:classless-static-route,169.254.169.254/32,10.0.0.2,0.0.0.0/0,10.0.0.1",
        "tag:subnet-0000000bb01,249,169.254.169.254/32,10.0.0.2,0.0.0.0/0,10.0.0.1",
    ]


def test_a_router_that_is_not_there_is_suppressed() -> None:
    network = replace(NETWORK, subnets=(replace(SUBNET, gateway_ip=None),))
    lines = files(network, []).options.splitlines()
    assert lines[0] == "tag:subnet-0000000bb01,option:router"
    assert not any("0.0.0.0/0" in line for line in lines)


def test_the_probes_name_tells_every_state_of_the_files_apart() -> None:
    states = [
        files(NETWORK, []),
        files(NETWORK, [make_port(11)]),
        files(NETWORK, [make_port(12)]),
        files(replace(NETWORK, mtu=1400), [make_port(11)]),
    ]
    assert len({state.probe_name for state in states}) == len(states)
    assert files(NETWORK, [make_port(11), make_port(12)]) == files(NETWORK, [make_port(12), make_port(11)])
    assert states[1].names.endswith(f"127.0.0.2 {states[1].probe_name}\n")


def test_a_nameless_guest_is_called_by_its_port() -> None:
    assert host_name(make_port(11, hostname="")) == "port-0000000000b"
    assert host_name(make_port(11, hostname="Demo")) == "demo"


def test_the_command_line() -> None:
    second = Subnet(
        "01920000-0000-7000-8000-00000000bb02",
        IPv4Network("10.1.0.0/16"),
        None,
        IPv4Address("10.1.0.2"),
        (IPv4Address("9.9.9.9"), IPv4Address("9.9.9.9")),
    )
    network = replace(NETWORK, subnets=(SUBNET, second))
    line = command("/usr/sbin/dnsmasq", network, PATHS, "nobody")
    assert line[0] == "/usr/sbin/dnsmasq"
    assert pid_marker(PATHS) in line
    assert "--dhcp-range=set:subnet-0000000bb01,10.0.0.0,static,255.255.255.0,86400s" in line
    assert "--dhcp-range=set:subnet-0000000bb02,10.1.0.0,static,255.255.0.0,86400s" in line
    assert [part for part in line if part.startswith("--server")] == ["--server=9.9.9.9"]
    assert {"--no-resolv", "--dhcp-authoritative", "--dhcp-ignore=tag:!known", "--user=nobody"} <= set(line)


def test_without_nameservers_nothing_is_forwarded() -> None:
    assert not any(part.startswith("--server") for part in command("dnsmasq", NETWORK, PATHS, "nobody"))


SIX = Subnet(
    "01920000-0000-7000-8000-00000000bb06",
    IPv6Network("fd00:1::/64"),
    IPv6Address("fd00:1::1"),
    IPv6Address("fd00:1::2"),
    (IPv6Address("fd00:9::53"),),
)


def test_an_ipv6_prefix_is_advertised_by_what_is_no_router() -> None:
    network = replace(NETWORK, subnets=(SUBNET, SIX))
    line = command("dnsmasq", network, PATHS, "nobody")
    assert "--enable-ra" in line and "--dhcp-range=fd00:1::,ra-only,64,86400s" in line
    assert [part for part in line if part.startswith("--ra-param")] == [
        f"--ra-param={inner_device(NETWORK.network_id)},mtu:1450,60,0"
    ]
    assert f"--dhcp-option=tag:{inner_device(NETWORK.network_id)},option6:dns-server,[fd00:1::2]" in line
    assert {"--listen-address=10.0.0.2", "--listen-address=fd00:1::2", "--server=fd00:9::53"} <= set(line)
    port = make_port(11, addresses=(IPv4Address("10.0.0.11"), IPv6Address("fd00:1::b")))
    wanted = files(network, [port])
    assert "fd00:1" not in wanted.hosts + wanted.options
    assert "fd00:1::b guest-11.novalocal guest-11\n" in wanted.names


def test_without_dhcp_names_and_metadata_are_served_all_the_same() -> None:
    network = replace(NETWORK, subnets=(replace(SUBNET, no_dhcp=True), replace(SIX, no_dhcp=True)))
    line = command("dnsmasq", network, PATHS, "nobody")
    assert not any(part.startswith(("--dhcp-range", "--enable-ra")) for part in line)
    assert "--listen-address=10.0.0.2" in line
    wanted = files(network, [make_port(11)])
    assert (wanted.hosts, wanted.options) == ("", "")


def test_host_routes_are_told_beside_the_others() -> None:
    routed = replace(SUBNET, host_routes=(Route(ip_network("10.9.0.0/16"), ip_address("10.0.0.9")),))
    options = files(replace(NETWORK, subnets=(routed,)), []).options
    routes = "169.254.169.254/32,10.0.0.2,10.9.0.0/16,10.0.0.9,0.0.0.0/0,10.0.0.1"
    assert f",option:classless-static-route,{routes}\n" in options and f",249,{routes}\n" in options
