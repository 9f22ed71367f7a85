"""Who is there: the neighbour table of a network's namespace (arp(7), rtnetlink(7) RTM_GETNEIGH). Blocks."""

from __future__ import annotations

import socket
from ipaddress import ip_address

from pyroute2 import IPRoute

from net_agent.drivers.linux.links import get_link

# NUD_STALE and NUD_DELAY prove nothing: dnsmasq itself enters the address that it offers as a stale neighbour, before
# the guest has it (its arp_inject). REACHABLE says that the guest answered ARP for the address or acknowledged TCP.
NUD_REACHABLE = 0x02


def confirmed_neighbours(device: str) -> frozenset[tuple[str, str]]:
    """(MAC address, address) of the reachable neighbours at a device of the calling thread's namespace.

    An IPv6 address that is good on this link alone is nobody's news: every guest has one.
    """
    with IPRoute() as ip:
        link = get_link(ip, device)
        if link is None:
            return frozenset()
        return frozenset(
            (message.get("lladdr"), message.get("dst"))
            for family in (socket.AF_INET, socket.AF_INET6)
            for message in ip.get_neighbours(family=family, ifindex=link.index)
            if message["state"] & NUD_REACHABLE and message["ifindex"] == link.index
            if not ip_address(message.get("dst")).is_link_local
        )
