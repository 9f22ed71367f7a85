"""The guest's router on its host: its namespace, its way out, and what it makes of addresses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from typing import Any, TypeVar

from pyroute2 import IPRoute

from net_agent.diagnosis.finding import Finding, broken, not_applicable, ok
from net_agent.diagnosis.nft import list_table
from net_agent.diagnosis.path import GuestPath
from net_agent.drivers.linux.links import Link, addresses, get_link
from net_agent.drivers.linux.routing import names
from net_agent.model import ExternalGateway, FloatingIp, Router, RouterInterface, Subnet

T = TypeVar("T")
_RECONCILE = "the net-agent puts it back within seconds: cirra service list says whether it runs, its log why not"
NO_ROUTER = "no router has an interface on the guest's subnet"
NO_WAY_OUT = "the router has no way out"


@dataclass(frozen=True, slots=True)
class Way:
    """The router that is the gateway of the guest's subnet."""

    router: Router
    interface: RouterInterface

    @property
    def namespace(self) -> str:
        return names.router_namespace(self.router.router_id)


@dataclass(frozen=True, slots=True)
class WayOut:
    """Its way out. `floating`: the address that the guest is seen by; None: the host's."""

    way: Way
    gateway: ExternalGateway
    floating: FloatingIp | None

    @property
    def namespace(self) -> str:
        return names.external_namespace(self.gateway.network_id)

    @property
    def next_hop(self) -> IPv4Address | None:
        return next((hop for hop in self.gateway.next_hops if isinstance(hop, IPv4Address)), None)

    @property
    def host_address(self) -> IPv4Interface | None:
        return next((it for it in self.gateway.host_addresses if isinstance(it, IPv4Interface)), None)


def way_of(path: GuestPath) -> Way | None:
    """By the gateway that the guest is told; a router that is on its subnet by another address comes second."""
    return None if path.own is None else way_on(path, path.own[1])


def way_on(path: GuestPath, subnet: Subnet) -> Way | None:
    """The same, of one of the guest's subnets."""
    ways = [
        Way(router, interface)
        for _, router in sorted(path.ground.wanted.routers.items())
        for interface in router.interfaces
        if interface.subnet_id == subnet.subnet_id
    ]
    return next((way for way in ways if way.interface.address.ip == subnet.gateway_ip), ways[0] if ways else None)


def way_out_of(path: GuestPath) -> WayOut | None:
    way = way_of(path)
    if way is None or way.router.gateway is None:
        return None
    floating = [
        each
        for _, each in sorted(path.ground.wanted.floating_ips.items())
        if each.port_id == path.port.port_id and each.router_id == way.router.router_id
    ]
    return WayOut(way, way.router.gateway, floating[0] if floating else None)


async def router(path: GuestPath) -> Finding:
    """Its namespace, with an interface on the guest's bridge."""
    way = way_of(path)
    if way is None:
        return not_applicable(NO_ROUTER)
    if not path.ground.namespaces.exists(way.namespace):
        return broken("ROUTER_MISSING", f"there is no namespace {way.namespace}", _RECONCILE)
    inner = names.inner_device(way.interface.subnet_id)
    outer = names.outer_device(way.router.router_id, way.interface.subnet_id)
    link, present = await inside(path, way.namespace, lambda: _link(inner))
    if link is None or not link.up:
        seen = f"{inner} in {way.namespace} is {'missing' if link is None else 'down'}"
        return broken("ROUTER_INTERFACE_MISSING", seen, _RECONCILE)
    if str(way.interface.address) not in present:
        return broken("ROUTER_ADDRESS_MISSING", f"{inner} lacks {way.interface.address}", _RECONCILE)
    leg, bridge = await path.on_host(lambda: (_link(outer)[0], _link(way.interface.bridge)[0]))
    if leg is None or bridge is None or not leg.up or leg.master != bridge.index:
        seen = f"{outer}, the router's end on {way.interface.bridge}, is missing, down or off it"
        return broken("ROUTER_OFF_BRIDGE", seen, _RECONCILE)
    return ok(f"{inner} in {way.namespace} has {way.interface.address}, and {outer} is on {bridge.name}")


async def translation(path: GuestPath) -> Finding:
    """What the guest is seen by outside."""
    out = way_out_of(path)
    if out is None:
        return not_applicable(NO_ROUTER if way_of(path) is None else NO_WAY_OUT)
    if out.floating is None and not out.gateway.snat:
        return not_applicable("the router translates no addresses: the provider routes to the guest's")
    if out.host_address is None and out.floating is None:
        seen = "this host has no address on the external network: what has no floating IP can't go out"
        return broken("NO_HOST_ADDRESS", seen, "see cirra network show of the external network: it may be used up")
    table = await inside(path, out.way.namespace, lambda: list_table("inet", "cirra"))
    if table is None:
        return broken("NAT_TABLE_MISSING", f"{out.way.namespace} has no table `inet cirra`", _RECONCILE)
    if out.floating is not None:
        return _floating(out.way.namespace, table, out.floating)
    if not translates(table, names.GATEWAY_DEVICE):
        seen = f"{out.way.namespace} does not translate what leaves by {names.GATEWAY_DEVICE}"
        return broken("SNAT_MISSING", seen, _RECONCILE)
    outer = await inside(path, out.namespace, lambda: list_table("inet", "cirra"))
    if outer is None or not translates(outer, None):
        seen = f"{out.namespace} does not translate to this host's address"
        return broken("SNAT_MISSING", seen, _RECONCILE)
    return ok(f"outside the guest is seen by {out.host_address.ip if out.host_address else 'the host'}")


def _floating(namespace: str, table: list[Mapping[str, Any]], floating: FloatingIp) -> Finding:
    address, fixed = str(floating.floating_address), str(floating.fixed_address)
    if [fixed, address] not in elements(table, "outwards"):
        seen = f"{namespace} does not translate {fixed} to {address}"
        return broken("FLOATING_IP_NOT_TRANSLATED", seen, _RECONCILE)
    return ok(f"outside the guest is seen by its floating IP {address}")


async def way_out(path: GuestPath) -> Finding:
    """From the router to the external network's bridge, with the routes on the way."""
    out = way_out_of(path)
    if out is None:
        return not_applicable(NO_ROUTER if way_of(path) is None else NO_WAY_OUT)
    if not path.ground.namespaces.exists(out.namespace):
        return broken("WAY_OUT_MISSING", f"there is no namespace {out.namespace}", _RECONCILE)
    if (wrong := await _broken_leg(path, out)) is not None:
        return wrong
    here = await inside(path, out.way.namespace, default_gateway)
    if here is None:
        return broken("ROUTE_MISSING", f"{out.way.namespace} has no default route", _RECONCILE)
    there = await inside(path, out.namespace, default_gateway)
    if out.next_hop is not None and there != out.next_hop:
        seen = f"{out.namespace} has no default route by {out.next_hop}" + (f", but by {there}" if there else "")
        return broken("ROUTE_MISSING", seen, _RECONCILE)
    return ok(f"{out.way.namespace} leads to {out.namespace}, and that to {there}")


async def _broken_leg(path: GuestPath, out: WayOut) -> Finding | None:
    device, leg_name = names.EXTERNAL_DEVICE, names.external_leg(out.gateway.network_id)
    link, present = await inside(path, out.namespace, lambda: _link(device))
    if link is None or not link.up:
        seen = f"{device} in {out.namespace} is {'missing' if link is None else 'down'}"
        return broken("WAY_OUT_BROKEN", seen, _RECONCILE)
    if out.host_address is not None and str(out.host_address) not in present:
        return broken("WAY_OUT_BROKEN", f"{device} in {out.namespace} lacks {out.host_address}", _RECONCILE)
    leg, bridge = await path.on_host(lambda: (_link(leg_name)[0], _link(out.gateway.bridge)[0]))
    if leg is None or bridge is None or not leg.up or leg.master != bridge.index:
        return broken("WAY_OUT_BROKEN", f"{leg_name} is missing, down or off {out.gateway.bridge}", _RECONCILE)
    return None


# ---- what the kernel has


async def inside(path: GuestPath, namespace: str, function: Callable[[], T]) -> T:
    """Raises FileNotFoundError when there is no such namespace."""
    return await path.ground.namespaces.inside(namespace, function)


def _link(name: str) -> tuple[Link | None, frozenset[str]]:
    """An interface of the calling thread's namespace, and its IPv4 addresses as "10.0.0.2/24"."""
    with IPRoute() as ip:
        link = get_link(ip, name)
        return link, addresses(ip, link) if link is not None else frozenset()


def default_gateway() -> IPv4Address | None:
    with IPRoute() as ip:
        found = (route.get("gateway") for route in ip.get_default_routes(family=2, table=254))
        return next((IPv4Address(each) for each in found if each), None)


def elements(table: list[Mapping[str, Any]], name: str) -> list[Any]:
    """Of a set or a map, as libnftables-json(5) has them; a pair of a map is a list of two."""
    for entry in table:
        if (named := entry.get("map") or entry.get("set")) and named["name"] == name:
            return list(named.get("elem", []))
    return []


def translates(table: list[Mapping[str, Any]], device: str | None) -> bool:
    """Some rule gives what leaves (by a device) one other source address, whatever its own."""
    for entry in table:
        expressions = entry.get("rule", {}).get("expr", ())
        snat = next((part["snat"] for part in expressions if "snat" in part), None)
        leaves_by = [part["match"]["right"] for part in expressions if _matches_output(part)]
        if isinstance((snat or {}).get("addr"), str) and (device is None or device in leaves_by):
            return True
    return False


def _matches_output(part: Mapping[str, Any]) -> bool:
    return part.get("match", {}).get("left") == {"meta": {"key": "oifname"}}
