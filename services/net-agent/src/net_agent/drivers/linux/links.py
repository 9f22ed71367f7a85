"""Interfaces as rtnetlink(7) shows them. Everything here blocks and acts on the calling thread's namespace."""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

IFF_UP = 1

_SETTINGS = {
    "bridge": ("br_nf_call_iptables", "br_nf_call_ip6tables"),
    "vxlan": ("vxlan_id", "vxlan_port", "vxlan_learning", "vxlan_local", "vxlan_local6"),
    "vlan": ("vlan_id",),
}
_PORT_FLAGS = (
    "learning",
    "unicast_flood",
    "mcast_flood",
    "bcast_flood",
    "neigh_suppress",
)
# An interface's alias (IFLA_IFALIAS) says whose it is: what doesn't bear our alias isn't ours to remove.
_ALIAS = "cirra:"


@dataclass(frozen=True, slots=True)
class Link:
    """`up`: IFF_UP, the administrative state; a tap that no guest has opened is up without a carrier."""

    index: int
    name: str
    kind: str
    up: bool
    mtu: int
    master: int | None
    alias: str
    mac_address: str
    # Of tunnels and VLANs, what they were made with; of bridges, whom they show their frames; of a tunnel on a bridge,
    # how it is its port (rtnetlink's names).
    settings: Mapping[str, Any] = field(default_factory=dict)
    port_flags: Mapping[str, int] = field(default_factory=dict)

    def owner(self, role: str) -> str | None:
        """The id of the object that this interface was made for, in this role; None: it isn't ours."""
        prefix = f"{_ALIAS}{role}:"
        return self.alias.removeprefix(prefix) if self.alias.startswith(prefix) else None


class Links:
    """Interfaces of one namespace, by name and by index."""

    def __init__(self, links: Collection[Link]) -> None:
        self._by_name = {link.name: link for link in links}
        self._by_index = {link.index: link for link in links}

    def __iter__(self) -> Iterator[Link]:
        return iter(self._by_name.values())

    def get(self, name: str) -> Link | None:
        return self._by_name.get(name)

    def at(self, index: int | None) -> Link | None:
        return self._by_index.get(index) if index is not None else None

    def is_on(self, name: str, bridge: str) -> bool:
        """The interface is up, and a port of the bridge, which is up too."""
        link, master = self.get(name), self.get(bridge)
        return link is not None and master is not None and link.up and master.up and link.master == master.index


def alias(role: str, object_id: str) -> str:
    return f"{_ALIAS}{role}:{object_id}"


def _link(message: Any) -> Link:
    kind = message.get(("linkinfo", "kind")) or ""
    return Link(
        index=message["index"],
        name=message.get("ifname"),
        kind=kind,
        up=bool(message["flags"] & IFF_UP),
        mtu=message.get("mtu") or 0,
        master=message.get("master"),
        alias=message.get("ifalias") or "",
        mac_address=message.get("address") or "",
        settings=_settings(message, kind),
        port_flags=_port_flags(message) if kind == "vxlan" else {},
    )


def _settings(message: Any, kind: str) -> Mapping[str, Any]:
    settings = {name: message.get(("linkinfo", "data", name)) for name in _SETTINGS.get(kind, ())}
    return settings | {"link": message.get("link")} if kind == "vlan" else settings


def _port_flags(message: Any) -> Mapping[str, int]:
    return {name: message.get(("linkinfo", "slave_data", name)) for name in _PORT_FLAGS}


def get_link(ip: IPRoute, name: str) -> Link | None:
    try:
        return next((_link(message) for message in ip.link("get", ifname=name)), None)
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            return None
        raise


def all_links(ip: IPRoute) -> list[Link]:
    return [_link(message) for message in ip.get_links()]


def set_link(ip: IPRoute, link: Link, **wanted: Any) -> bool:
    """Changes what differs, and nothing else; `master` is an index, 0 for none. Says whether anything did."""
    current = {
        "mtu": link.mtu,
        "master": link.master or 0,
        "ifalias": link.alias,
        "state": "up" if link.up else "down",
        "address": link.mac_address,
    }
    changes = {key: value for key, value in wanted.items() if current[key] != value}
    if changes:
        ip.link("set", index=link.index, **changes)
    return bool(changes)


def delete_link(ip: IPRoute, link: Link) -> None:
    """Absent is success."""
    try:
        ip.link("del", index=link.index)
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise


def addresses(ip: IPRoute, link: Link) -> frozenset[str]:
    """Its addresses as "10.0.0.2/24", "fe80::1/64"."""
    return frozenset(
        f"{message.get('local') or message.get('address')}/{message['prefixlen']}"
        for message in ip.get_addr(index=link.index)
        if message["index"] == link.index
    )


def disable_ipv6(interface: str) -> None:
    """An interface without IPv6 gives a guest no link-local way to whoever owns it."""
    write_sysctl(f"net/ipv6/conf/{interface}/disable_ipv6", "1")


def have_no_ipv6_address(interface: str) -> None:
    """An interface that knows IPv6, and neither makes itself an address nor takes one from a router."""
    for name, value in (("addr_gen_mode", "1"), ("accept_ra", "0"), ("autoconf", "0"), ("disable_ipv6", "0")):
        write_sysctl(f"net/ipv6/conf/{interface}/{name}", value)


def write_sysctl(name: str, value: str) -> None:
    """Of the calling thread's namespace (sysctl.conf names with slashes); a kernel without it needs no telling."""
    path = Path("/proc/sys") / name
    if path.exists() and path.read_text().strip() != value:
        path.write_text(value)
