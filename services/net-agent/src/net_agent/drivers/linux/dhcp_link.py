"""The veth pair between a network's bridge and its namespace, where DHCP, DNS and metadata answer."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from pyroute2 import IPRoute

from core.ids import device_suffix
from net_agent.drivers.base import NetworkFault
from net_agent.drivers.linux.links import (
    addresses,
    alias,
    all_links,
    delete_link,
    disable_ipv6,
    get_link,
    have_no_ipv6_address,
    set_link,
    write_sysctl,
)
from net_agent.model import METADATA_ADDRESS, METADATA_ADDRESS_IPV6, Network

ROLE = "dhcp"


def outer_device(network_id: str) -> str:
    """The end on the bridge."""
    return f"qdh{device_suffix(network_id)}"


def inner_device(network_id: str) -> str:
    """The end in the namespace."""
    return f"ns-{device_suffix(network_id)}"


def service_mac_address(network_id: str) -> str:
    """The same on every host, so that a guest that migrates finds its DHCP server where it was.

    0e: locally administered, and apart from the prefixes that ports use.
    """
    digits = device_suffix(network_id)[-10:]
    return ":".join(["0e", *(digits[index : index + 2] for index in range(0, 10, 2))])


def ensure_outer(network: Network, namespace: Path) -> None:
    """Runs on the host: the pair exists, its other end in the namespace, this end up on the bridge."""
    outer, inner = outer_device(network.network_id), inner_device(network.network_id)
    with IPRoute() as ip:
        bridge = get_link(ip, network.bridge)
        link = get_link(ip, outer)
        if link is None:
            descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                ip.link(
                    "add",
                    ifname=outer,
                    kind="veth",
                    mtu=network.mtu,
                    peer={
                        "ifname": inner,
                        "net_ns_fd": descriptor,
                        "address": service_mac_address(network.network_id),
                        "mtu": network.mtu,
                    },
                )
            finally:
                os.close(descriptor)
            disable_ipv6(outer)
            link = get_link(ip, outer)
        if link is None or bridge is None:
            raise NetworkFault(f"{outer} or the bridge {network.bridge} vanished while it was made")
        set_link(ip, link, ifalias=alias(ROLE, network.network_id), mtu=network.mtu, master=bridge.index, state="up")


def wanted_addresses(network: Network) -> list[str]:
    """In order: the address that answers DHCP first."""
    own = [f"{subnet.dhcp_ip}/{subnet.cidr.prefixlen}" for subnet in network.served_subnets]
    metadata = [f"{METADATA_ADDRESS}/32", *([f"{METADATA_ADDRESS_IPV6}/64"] if network.has_ipv6 else [])]
    return [*own, *metadata]


def default_gateway(network: Network, version: int = 4) -> str | None:
    """The way of forwarded DNS questions; dnsmasq is the only one in there that goes out, and not to a provider's."""
    if network.physical_network:
        return None
    of_family = (subnet for subnet in network.served_subnets if subnet.cidr.version == version)
    return next((str(subnet.gateway_ip) for subnet in of_family if subnet.gateway_ip), None)


def ensure_inner(network: Network) -> None:
    """Runs in the namespace: loopback and the pair's end are up, with just the wanted addresses and route."""
    disable_ipv6("all")
    disable_ipv6("default")
    # A new namespace inherits this from the host; this one answers, and is nobody's router.
    write_sysctl("net/ipv4/ip_forward", "0")
    with IPRoute() as ip:
        loopback = get_link(ip, "lo")
        link = get_link(ip, inner_device(network.network_id))
        if loopback is None or link is None:
            raise NetworkFault(f"{inner_device(network.network_id)} is not in its namespace")
        if network.has_ipv6:
            have_no_ipv6_address(link.name)
            # It has the same addresses on every host, and guests see only their host's.
            write_sysctl(f"net/ipv6/conf/{link.name}/accept_dad", "0")
        else:
            disable_ipv6(link.name)
        set_link(ip, loopback, state="up")
        set_link(ip, link, mtu=network.mtu, state="up")
        # A neighbour that was heard of is asked whether it is there after one second, not five.
        for family in ("ipv4", "ipv6"):
            write_sysctl(f"net/{family}/neigh/{link.name}/delay_first_probe_time", "1")
        wanted, present = wanted_addresses(network), addresses(ip, link)
        for surplus in sorted(present.difference(wanted)):
            ip.addr("del", index=link.index, address=surplus.split("/")[0], prefixlen=int(surplus.split("/")[1]))
        for text in wanted:
            if text not in present:
                ip.addr("add", index=link.index, address=text.split("/")[0], prefixlen=int(text.split("/")[1]))
        _ensure_default_route(ip, link.index, default_gateway(network), socket.AF_INET)
        if network.has_ipv6:
            _ensure_default_route(ip, link.index, default_gateway(network, 6), socket.AF_INET6)


def _ensure_default_route(ip: IPRoute, index: int, gateway: str | None, family: int) -> None:
    current = next((route.get("gateway") for route in ip.get_default_routes(family=family)), None)
    if gateway == current:
        return
    if gateway is None:
        ip.route("del", dst="default", oif=index, family=family)
    else:
        ip.route("replace", dst="default", gateway=gateway, oif=index, family=family)


def outer_stands(network: Network) -> bool:
    with IPRoute() as ip:
        link, bridge = get_link(ip, outer_device(network.network_id)), get_link(ip, network.bridge)
    return link is not None and bridge is not None and link.up and link.master == bridge.index


def inner_stands(network: Network) -> bool:
    with IPRoute() as ip:
        link = get_link(ip, inner_device(network.network_id))
        return link is not None and link.up and addresses(ip, link).issuperset(wanted_addresses(network))


def remove_outer(network_id: str) -> None:
    """Both ends go at once; by hand, since a namespace frees its interfaces late. Absent is success."""
    with IPRoute() as ip:
        for link in all_links(ip):
            if link.owner(ROLE) == network_id or link.name == outer_device(network_id):
                delete_link(ip, link)
