"""The inside of a router's namespace, as it shall be. Pure.

What is routed between the router's own subnets passes no connection tracking: on the way back it may come by another
host's copy of this router. Translations are of what comes and goes by the way out, and of what guests send to floating
addresses of their neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_network

from net_agent.drivers.linux.routing.desired import Routing, translations
from net_agent.drivers.linux.routing.names import (
    GATEWAY_DEVICE,
    INNER_LINK_LOCAL,
    INTERFACE_PREFIX,
    OUTER_LINK_LOCAL,
    LinkAddresses,
    inner_device,
    router_namespace,
)
from net_agent.drivers.linux.routing.plan import (
    Announcement,
    Interface,
    NamespacePlan,
    RouteEntry,
    RuleEntry,
    per_interface,
)
from net_agent.drivers.linux.ruleset import Chain, Rule, Set, Table
from net_agent.model import METADATA_ADDRESS, ExternalGateway, IpAddress, IpInterface, Router, RouterInterface

_METADATA = IPv4Network(METADATA_ADDRESS)
_EVERYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))
# Of the table that an interface's questions for metadata are routed by; routing tables are 32 bits wide.
_FIRST_TABLE = 1000

# The way back may lead by another host's router: only half of a connection is seen here, and a source may be anywhere.
FORWARDING = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/netfilter/nf_conntrack_tcp_be_liberal": "1",
    # A guest that has come from another host goes on with its connections.
    "net/netfilter/nf_conntrack_tcp_loose": "1",
    **per_interface("all", v4_rp_filter="0", v4_send_redirects="0", v4_accept_redirects="0", v6_accept_ra="0"),
    **per_interface("default", v4_rp_filter="0", v4_send_redirects="0", v6_accept_dad="0", v6_accept_ra="0"),
    # Two subnets may be on one bridge: each address answers, and asks, by its own interface.
    **per_interface("all", v4_arp_ignore="1", v4_arp_announce="2"),
}


def interface_settings(name: str) -> dict[str, str]:
    """Each host has this interface with the same addresses: duplicates are right (RFC 4862, 5.4)."""
    return per_interface(name, v4_rp_filter="0", v4_send_redirects="0", v6_accept_dad="0", v6_disable_ipv6="0")


def router_plan(router: Router, desired: Routing, link: LinkAddresses | None) -> NamespacePlan:
    """link: of its way out; None: it has none."""
    gateway = router.gateway if link is not None else None
    interfaces = [_interface(each) for each in router.interfaces]
    routes = {
        RouteEntry(route.destination, route.next_hop, device)
        for route in router.routes
        if (device := _device_towards(route.next_hop, router, link)) is not None
    }
    if gateway is not None and link is not None:
        addresses: frozenset[IpInterface] = frozenset({link.inner, INNER_LINK_LOCAL})
        settings = interface_settings(GATEWAY_DEVICE)
        interfaces.append(Interface(GATEWAY_DEVICE, "", gateway.mtu, addresses, settings))
        routes |= _defaults(link, routes)
    metadata = desired.metadata or {}
    by_table = {
        _FIRST_TABLE + number: (inner_device(each.subnet_id), metadata[each.subnet_id])
        for number, each in enumerate(sorted(router.interfaces, key=lambda each: each.subnet_id))
        if each.subnet_id in metadata
    }
    routes |= {RouteEntry(_METADATA, address, device, table) for table, (device, address) in by_table.items()}
    return NamespacePlan(
        name=router_namespace(router.router_id),
        sysctls=FORWARDING,
        interfaces=tuple(interfaces),
        routes=frozenset(routes),
        rules=frozenset(RuleEntry(device, _METADATA, table) for table, (device, _) in by_table.items()),
        neighbours=_neighbours(router, desired),
        proxies=frozenset(),
        table=_table(router, gateway, desired, link, desired.guest_connections),
    )


def _interface(interface: RouterInterface) -> Interface:
    name = inner_device(interface.subnet_id)
    addresses = frozenset({interface.address})
    return Interface(name, interface.mac_address, interface.mtu, addresses, interface_settings(name))


def _device_towards(next_hop: IpAddress, router: Router, link: LinkAddresses | None) -> str | None:
    """The interface whose subnet the next hop is in; else the way out; None: it can't be reached."""
    for interface in router.interfaces:
        if next_hop in interface.address.network:
            return inner_device(interface.subnet_id)
    return None


def _defaults(link: LinkAddresses, routes: set[RouteEntry]) -> set[RouteEntry]:
    """A static default route goes before the way out."""
    taken = {route.destination for route in routes}
    ways: tuple[IPv4Address | IPv6Address, ...] = (link.outer.ip, OUTER_LINK_LOCAL.ip)
    return {
        RouteEntry(destination, way, GATEWAY_DEVICE)
        for destination, way in zip(_EVERYWHERE, ways, strict=True)
        if destination not in taken
    }


def _neighbours(router: Router, desired: Routing) -> Mapping[tuple[str, IpAddress], str]:
    """Who is on the router's subnets, here and elsewhere: it need not ask, and across hosts it can't."""
    stations = desired.stations or {}
    return {
        (inner_device(interface.subnet_id), address): mac_address
        for interface in router.interfaces
        for address, mac_address in stations.get(interface.network_id, {}).items()
        if address in interface.address.network and address != interface.address.ip
    }


# ---- rules


def _table(
    router: Router, gateway: ExternalGateway | None, desired: Routing, link: LinkAddresses | None, connections: int
) -> Table:
    pairs = translations(desired, router) if gateway is not None else ()
    # Of two floating addresses of one guest, it is the first that it is seen by.
    outwards: dict[IPv4Address, IPv4Address] = {}
    for floating, fixed in sorted(pairs):
        outwards.setdefault(fixed, floating)
    own = collapse_addresses(
        each.address.network for each in router.interfaces if isinstance(each.address.network, IPv4Network)
    )
    sets = (
        Set("subnets", "ipv4_addr", frozenset(map(str, own)), interval=True),
        Set("inwards", "ipv4_addr : ipv4_addr", frozenset(f"{floating} : {fixed}" for floating, fixed in pairs)),
        Set(
            "outwards",
            "ipv4_addr : ipv4_addr",
            frozenset(f"{fixed} : {floating}" for fixed, floating in outwards.items()),
        ),
        Set("guests", "ipv4_addr", frozenset(), dynamic=True),
    )
    return Table("inet", "cirra", sets, (_RAW, _INWARDS, _outwards(gateway, link), _INPUT, _forward(connections)))


_RAW = Chain(
    "raw",
    "filter",
    "prerouting",
    -300,
    (
        Rule(
            f'iifname "{INTERFACE_PREFIX}*" ip daddr 169.254.0.0/16 ip daddr != {METADATA_ADDRESS} counter drop',
            "links between routers are no guest's",
        ),
        Rule("ip saddr @subnets ip daddr @subnets notrack", "between subnets, both ways may lead by two hosts"),
        Rule("meta nfproto ipv6 notrack", "nothing is translated"),
    ),
)
_INWARDS = Chain(
    "inwards", "nat", "prerouting", -100, (Rule("dnat ip to ip daddr map @inwards", "floating IPs to their guests"),)
)
_INPUT = Chain(
    "input",
    "filter",
    "input",
    0,
    (
        Rule("meta l4proto { icmp, ipv6-icmp } accept", "a gateway answers a ping"),
        Rule("counter drop", "nothing else is served here"),
    ),
)


def _forward(connections: int) -> Chain:
    busy = (
        f'oifname "{GATEWAY_DEVICE}" ct state new add @guests {{ ip saddr ct count over {connections} }} counter drop'
    )
    back = f'iifname "{GATEWAY_DEVICE}" oifname "{GATEWAY_DEVICE}" counter drop'
    rules = (
        Rule(back, "what came from outside stays in"),
        Rule(busy, "no guest has all connections to itself"),
    )
    return Chain("forward", "filter", "forward", 0, rules)


def _outwards(gateway: ExternalGateway | None, link: LinkAddresses | None) -> Chain:
    """Who is seen by whom: outside by the floating address or the host's, and so by neighbours (hairpin)."""
    rules: list[Rule] = []
    if gateway is not None and link is not None:
        hosts = [each.ip for each in gateway.host_addresses if each.version == 4]
        hairpin = f'iifname "{INTERFACE_PREFIX}*" oifname "{INTERFACE_PREFIX}*" ct status dnat'
        rules = [
            Rule(f'oifname "{GATEWAY_DEVICE}" snat ip to ip saddr map @outwards', "guests with a floating IP"),
            Rule(f"{hairpin} snat ip to ip saddr map @outwards", "guests to floating IPs of their neighbours"),
            Rule(f"{hairpin} snat ip to {hosts[0] if hosts else link.inner.ip}", "those without one of their own"),
        ]
        if gateway.snat:
            rules.append(
                Rule(f'oifname "{GATEWAY_DEVICE}" snat ip to {link.inner.ip}', "all others, told by this link")
            )
    return Chain("outwards", "nat", "postrouting", 100, tuple(rules))


def advertised(router: Router, desired: Routing) -> tuple[Announcement, ...]:
    """On the subnets whose guests make their addresses themselves."""
    resolvers = desired.resolvers or {}
    return tuple(
        Announcement(inner_device(each.subnet_id), each.address.network, each.mtu, resolvers[each.subnet_id])
        for each in sorted(router.interfaces, key=lambda each: each.subnet_id)
        if isinstance(each.address.network, IPv6Network) and each.subnet_id in resolvers
    )
