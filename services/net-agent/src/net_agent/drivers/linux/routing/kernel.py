"""A namespace compared with its plan, and changed by difference (rtnetlink(7)).

Everything here blocks, and acts on the calling thread's namespace.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, ip_address, ip_interface, ip_network
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import Any

from pyroute2 import IPRoute

from net_agent.drivers.linux.links import Link, delete_link, set_link, write_sysctl
from net_agent.drivers.linux.routing.plan import Interface, NamespacePlan, RouteEntry, RuleEntry
from net_agent.model import IpAddress, IpInterface

_NUD_PERMANENT = 0x80
_NTF_PROXY = 0x08
_RTNH_F_ONLINK = 0x04
# Who made a route: the kernel makes its own, we make those of this protocol (linux/rtnetlink.h).
_RTPROT_STATIC = 4
_RT_SCOPE_LINK = 253
_RULE_PRIORITY = 100
_FAMILIES = (AF_INET, AF_INET6)


@dataclass(frozen=True, slots=True)
class Change:
    """`what`: is wrong, for a person to read. `make`: puts it right.

    `announce`: an address that others are to be told of, once it is right.
    """

    what: str
    make: Callable[[], object]
    announce: IPv4Address | None = None


def differences(ip: IPRoute, plan: NamespacePlan, links: Mapping[str, Link]) -> list[Change]:
    """Everything that isn't as planned, in the order in which it is to be changed; rules of nftables aside.

    links: all that are there, by name. Those that don't exist are not made here: what is theirs is left out.
    """
    here = Here(ip, links)
    return [
        *here.sysctls(plan.sysctls.items()),
        *here.loopback(),
        *here.surplus_interfaces(plan),
        *(change for each in plan.interfaces for change in here.interface(each)),
        *here.routes(plan),
        *here.rules(plan),
        *here.neighbours(plan),
        *here.proxies(plan),
    ]


class Here:
    """One look at a namespace."""

    def __init__(self, ip: IPRoute, links: Mapping[str, Link]) -> None:
        self._ip = ip
        self._links = links
        self._addresses = _addresses(ip)
        self._names = {link.index: link.name for link in links.values()}

    def sysctls(self, wanted: Iterable[tuple[str, str]]) -> Iterator[Change]:
        for name, value in wanted:
            path = Path("/proc/sys") / name
            if path.exists() and path.read_text().strip() != value:
                yield Change(f"{name} is not {value}", partial(write_sysctl, name, value))

    def loopback(self) -> Iterator[Change]:
        link = self._links["lo"]
        if not link.up:
            yield Change("lo is down", lambda: set_link(self._ip, link, state="up"))

    def surplus_interfaces(self, plan: NamespacePlan) -> Iterator[Change]:
        wanted = {each.name for each in plan.interfaces}
        for link in self._links.values():
            if link.kind == "veth" and link.name not in wanted:
                yield Change(f"there is an interface {link.name}", partial(delete_link, self._ip, link))

    def interface(self, wanted: Interface) -> Iterator[Change]:
        link = self._links.get(wanted.name)
        if link is None:
            return
        yield from self.sysctls(wanted.sysctls.items())
        fields: dict[str, Any] = {"mtu": wanted.mtu, "state": "up"}
        if wanted.mac_address:
            fields["address"] = wanted.mac_address
        right = link.up and link.mtu == wanted.mtu and wanted.mac_address in ("", link.mac_address)
        if not right:
            yield Change(
                f"{wanted.name} is down, or has another MTU or MAC address",
                lambda: set_link(self._ip, link, **fields),
            )
        present = self._addresses[link.index]
        for surplus in sorted(present - wanted.addresses, key=str):
            if not surplus.is_link_local or surplus.version == 4:
                yield Change(f"{wanted.name} has {surplus}", self._address("del", link.index, surplus))
        for missing in sorted(wanted.addresses - present, key=str):
            announce = missing.ip if wanted.announced and isinstance(missing.ip, IPv4Address) else None
            yield Change(f"{wanted.name} lacks {missing}", self._address("replace", link.index, missing), announce)

    def _address(self, verb: str, index: int, address: IpInterface) -> Callable[[], object]:
        fields = {"index": index, "address": str(address.ip), "prefixlen": address.network.prefixlen}
        # RFC 3927, 1.9: not the source of anything on another link; ARP there is sent without one instead (RFC 5227).
        if address.version == 4 and address.is_link_local:
            fields["scope"] = _RT_SCOPE_LINK
        return lambda: self._ip.addr(verb, **fields)

    # ---- routes

    def routes(self, plan: NamespacePlan) -> Iterator[Change]:
        present = {entry for family in _FAMILIES for entry in self._routes(family)}
        for surplus in sorted(present - plan.routes, key=str):
            yield Change(f"there is a route {surplus}", self._route("del", surplus))
        for missing in sorted(plan.routes - present, key=_by_prefix):
            if missing.device in self._links:
                yield Change(f"there is no route {missing}", self._route("replace", missing))

    def _routes(self, family: int) -> Iterator[RouteEntry]:
        anywhere = "0.0.0.0" if family == AF_INET else "::"
        for message in self._ip.get_routes(family=family):
            device = self._names.get(message.get("oif"))
            if message["proto"] != _RTPROT_STATIC or device is None:
                continue
            gateway = message.get("gateway")
            yield RouteEntry(
                destination=ip_network(f"{message.get('dst') or anywhere}/{message['dst_len']}"),
                gateway=ip_address(gateway) if gateway else None,
                device=device,
                table=message.get("table") or message["table"],
            )

    def _route(self, verb: str, entry: RouteEntry) -> Callable[[], object]:
        fields: dict[str, Any] = {
            "family": AF_INET if entry.destination.version == 4 else AF_INET6,
            "dst": str(entry.destination),
            "oif": self._links[entry.device].index,
            "table": entry.table,
            "proto": _RTPROT_STATIC,
        }
        if entry.gateway is not None:
            fields |= {"gateway": str(entry.gateway), "flags": _RTNH_F_ONLINK}
        return lambda: self._ip.route(verb, **fields)

    def rules(self, plan: NamespacePlan) -> Iterator[Change]:
        present = {
            RuleEntry(message["iifname"], ip_network(f"{message['dst']}/{message['dst_len']}"), message["table"])
            for message in map(_plain_rule, self._ip.get_rules(family=AF_INET))
            if message["priority"] == _RULE_PRIORITY
        }
        for surplus in sorted(present - plan.rules, key=str):
            yield Change(f"there is a rule {surplus}", self._rule("del", surplus))
        for missing in sorted(plan.rules - present, key=str):
            yield Change(f"there is no rule {missing}", self._rule("add", missing))

    def _rule(self, verb: str, entry: RuleEntry) -> Callable[[], object]:
        fields = {
            "priority": _RULE_PRIORITY,
            "table": entry.table,
            "iifname": entry.device,
            "dst": str(entry.destination.network_address),
            "dst_len": entry.destination.prefixlen,
        }
        return lambda: self._ip.rule(verb, **fields)

    # ---- neighbours

    def neighbours(self, plan: NamespacePlan) -> Iterator[Change]:
        present = {
            (device, ip_address(message.get("dst"))): message.get("lladdr") or ""
            for message in self._ip.get_neighbours()
            if message["state"] & _NUD_PERMANENT and (device := self._names.get(message["ifindex"])) is not None
            if message["family"] in _FAMILIES
        }
        surplus = sorted(present.keys() - plan.neighbours.keys(), key=str)
        missing = sorted(
            (key for key, mac in plan.neighbours.items() if present.get(key) != mac and key[0] in self._links), key=str
        )
        if surplus:
            yield Change(
                f"{len(surplus)} neighbours are known that should not, such as {surplus[0][1]}",
                partial(self._each_neighbour, "del", {key: {} for key in surplus}),
            )
        if missing:
            yield Change(
                f"{len(missing)} neighbours are not known, such as {missing[0][1]}",
                partial(
                    self._each_neighbour,
                    "replace",
                    {key: {"lladdr": plan.neighbours[key], "state": _NUD_PERMANENT} for key in missing},
                ),
            )

    def _each_neighbour(self, verb: str, fields: Mapping[tuple[str, IpAddress], Mapping[str, Any]]) -> None:
        for (device, address), more in fields.items():
            self._neighbour(verb, device, address, **more)

    def proxies(self, plan: NamespacePlan) -> Iterator[Change]:
        present = {(self._names.get(index), ip_address(address)) for index, address in proxies(self._ip)}
        for device, address in sorted(present - plan.proxies, key=str):
            if device is not None:
                yield Change(
                    f"ARP for {address} is answered on {device}",
                    partial(self._neighbour, "del", device, address, flags=_NTF_PROXY),
                )
        for device, address in sorted(plan.proxies - present, key=str):
            if device in self._links:
                yield Change(
                    f"ARP for {address} is not answered on {device}",
                    partial(self._neighbour, "add", device, address, flags=_NTF_PROXY, state=0),
                    announce=address,
                )

    def _neighbour(self, verb: str, device: str, address: object, **fields: Any) -> None:
        self._ip.neigh(verb, dst=str(address), ifindex=self._links[device].index, **fields)


def _addresses(ip: IPRoute) -> defaultdict[int, set[IpInterface]]:
    """By the index of the interface."""
    found: defaultdict[int, set[IpInterface]] = defaultdict(set)
    for message in ip.get_addr():
        address = message.get("local") or message.get("address")
        found[message["index"]].add(ip_interface(f"{address}/{message['prefixlen']}"))
    return found


def proxies(ip: IPRoute) -> list[tuple[int, str]]:
    """(index of the interface, IPv4 address) that this namespace answers ARP for."""
    # No filter of answers: these are fields of the question.
    answer = ip.neigh("dump", dump_filter=None, family=AF_INET, flags=_NTF_PROXY)
    return [(message["ifindex"], message.get("dst")) for message in answer if message["flags"] & _NTF_PROXY]


def _by_prefix(entry: RouteEntry) -> tuple[int, str]:
    """The longest first: a next hop may be reached by another route."""
    return -entry.destination.prefixlen, str(entry)


def _plain_rule(message: Any) -> dict[str, Any]:
    return {
        "priority": message.get("priority"),
        "table": message.get("table") or message["table"],
        "iifname": message.get("iifname") or "",
        "dst": message.get("dst") or "0.0.0.0",
        "dst_len": message["dst_len"],
    }
