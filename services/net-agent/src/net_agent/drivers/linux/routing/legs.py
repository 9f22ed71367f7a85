"""The interfaces that lead into the namespaces of routers: legs on bridges, and the pairs between two of them.

Everything here blocks, and acts on the calling thread's namespace.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

from net_agent.drivers.base import NetworkFault
from net_agent.drivers.linux.links import Link, alias, all_links, delete_link, disable_ipv6, get_link, set_link
from net_agent.drivers.linux.routing.bridge_plan import Edge
from net_agent.drivers.linux.routing.kernel import Change
from net_agent.drivers.linux.routing.names import EXTERNAL_ROLE, ROUTER_ROLE

_ROLES = (ROUTER_ROLE, EXTERNAL_ROLE)
_NUD_NOARP, _NTF_MASTER, _NTF_STICKY = 0x40, 0x04, 0x40


@dataclass(frozen=True, slots=True)
class Leg:
    """A veth pair from a bridge on the host (`outer`) into a namespace (`inner`). `mac_address`: of the inner end.

    `role`, `owner`: whose it is, in the outer end's alias.
    """

    outer: str
    inner: str
    namespace: Path
    bridge: str
    mtu: int
    mac_address: str
    role: str
    owner: str


class HostLinks:
    """One look at the host's interfaces and at the entries of its bridges' forwarding tables that don't move."""

    def __init__(self, ip: IPRoute) -> None:
        self.ip = ip
        self.by_name = {link.name: link for link in all_links(ip)}
        self.by_index = {link.index: link for link in self.by_name.values()}
        self._sticky: set[tuple[int, str]] | None = None

    def sticky(self, index: int, mac_address: str) -> bool:
        if self._sticky is None:
            self._sticky = {
                (message["ifindex"], message.get("lladdr") or "")
                for message in self.ip.fdb("dump")
                if message["flags"] & _NTF_STICKY
            }
        return (index, mac_address) in self._sticky

    def edges(self, bridges: Collection[str]) -> dict[str, tuple[Edge, ...]]:
        """By bridge: its ports that lead to other hosts, which are tunnels, and whatever is none of Cirra's own."""
        found: dict[str, tuple[Edge, ...]] = {}
        for name in bridges:
            bridge = self.by_name.get(name)
            if bridge is not None:
                members = [link for link in self.by_name.values() if link.master == bridge.index]
                edges = [edge for link in members if (edge := _edge(link)) is not None]
                found[name] = tuple(sorted(edges, key=lambda edge: edge.device))
        return found

    def legs(self) -> dict[str, Link]:
        """All outer ends, by name, whether they are wanted or not."""
        return {name: link for name, link in self.by_name.items() if any(link.owner(role) for role in _ROLES)}


def _edge(link: Link) -> Edge | None:
    if link.kind == "vxlan":
        return Edge(link.name, "")
    # Taps and ends of pairs bear our mark.
    if link.kind in ("tun", "veth") and link.alias.startswith("cirra:"):
        return None
    return Edge(link.name, link.mac_address)


def leg_changes(host: HostLinks, leg: Leg, *, inner_there: bool) -> Iterator[Change]:
    """Raises NetworkFault when there is no bridge to be on."""
    bridge = host.by_name.get(leg.bridge)
    if bridge is None:
        raise NetworkFault(f"the bridge {leg.bridge} is not there", reason="BRIDGE_MISSING")
    link = host.by_name.get(leg.outer)
    if link is None or not inner_there:
        yield Change(f"{leg.outer}, the leg on {leg.bridge}, is missing", lambda: _make_leg(host.ip, leg))
        return
    fields: dict[str, Any] = {
        "ifalias": alias(leg.role, leg.owner),
        "mtu": leg.mtu,
        "master": bridge.index,
        "state": "up",
    }
    if not (link.up and link.master == bridge.index and link.mtu == leg.mtu and link.alias == fields["ifalias"]):
        yield Change(f"{leg.outer} is not up on {leg.bridge}", lambda: _settle(host.ip, link, leg, fields))
    elif not host.sticky(link.index, leg.mac_address):
        yield Change(f"{leg.bridge} may learn {leg.mac_address} elsewhere", lambda: _stick(host.ip, link, leg))


def _make_leg(ip: IPRoute, leg: Leg) -> None:
    stale = get_link(ip, leg.outer)
    if stale is not None:
        delete_link(ip, stale)
    with _opened(leg.namespace) as descriptor:
        peer = {"ifname": leg.inner, "net_ns_fd": descriptor, "address": leg.mac_address, "mtu": leg.mtu}
        ip.link("add", ifname=leg.outer, kind="veth", mtu=leg.mtu, peer=peer)
    disable_ipv6(leg.outer)
    link, bridge = get_link(ip, leg.outer), get_link(ip, leg.bridge)
    if link is None or bridge is None:
        raise NetworkFault(f"{leg.outer} or the bridge {leg.bridge} vanished while it was made")
    fields = {"ifalias": alias(leg.role, leg.owner), "master": bridge.index, "state": "up"}
    _settle(ip, link, leg, fields)


def _settle(ip: IPRoute, link: Link, leg: Leg, fields: Mapping[str, Any]) -> None:
    set_link(ip, link, **fields)
    _stick(ip, link, leg)


def _stick(ip: IPRoute, link: Link, leg: Leg) -> None:
    """Frames from this MAC address that come from another host don't make the bridge look for it there."""
    ip.fdb("replace", ifindex=link.index, lladdr=leg.mac_address, flags=_NTF_MASTER | _NTF_STICKY, state=_NUD_NOARP)


@dataclass(frozen=True, slots=True)
class Pair:
    """Between an external namespace, where it is made, and a router's. `mtu` in octets."""

    outer: str
    inner: str
    router: Path
    mtu: int


def make_pair(pair: Pair) -> None:
    """Runs in the external namespace; what is left of a former one goes."""
    with IPRoute() as ip:
        stale = get_link(ip, pair.outer)
        if stale is not None:
            delete_link(ip, stale)
        with _opened(pair.router) as descriptor:
            peer = {"ifname": pair.inner, "net_ns_fd": descriptor, "mtu": pair.mtu}
            ip.link("add", ifname=pair.outer, kind="veth", mtu=pair.mtu, peer=peer)


def remove_interfaces(names: Collection[str] | None = None) -> None:
    """These pairs' ends, or all of them, in the namespace that this runs in; both ends go. Absent is success."""
    with IPRoute() as ip:
        for link in all_links(ip):
            if link.kind == "veth" and (names is None or link.name in names):
                delete_link(ip, link)


@contextmanager
def _opened(namespace: Path) -> Iterator[int]:
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
