"""The inside of an external network's namespace on this host, as it shall be. Pure.

What comes from a router without a floating address bears the address of its link, and gets the host's. Only the host's
and floating addresses, and those of subnets that the provider routes here, are ever seen outside.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, collapse_addresses, ip_network

from net_agent.drivers.linux.routing.desired import External
from net_agent.drivers.linux.routing.names import (
    EXTERNAL_DEVICE,
    INNER_LINK_LOCAL,
    LINK_PREFIX,
    OUTER_LINK_LOCAL,
    external_namespace,
    link_device,
)
from net_agent.drivers.linux.routing.plan import Interface, NamespacePlan, RouteEntry, per_interface
from net_agent.drivers.linux.routing.router_plan import FORWARDING, interface_settings
from net_agent.drivers.linux.ruleset import Chain, Rule, Set, Table
from net_agent.model import IpNetwork

_LINKS = "169.254.0.0/16"
# At once and without a floating IP, of all the connections that a namespace may track.
_ROUTER_CONNECTIONS = 32_768


def external_plan(external: External) -> NamespacePlan:
    gateway = external.gateway
    settings = {
        **interface_settings(EXTERNAL_DEVICE),
        # It answers for floating addresses at once, not within the second that proxies wait (ip-sysctl.rst).
        f"net/ipv4/neigh/{EXTERNAL_DEVICE}/proxy_delay": "0",
        **per_interface(EXTERNAL_DEVICE, v6_accept_ra="0"),
    }
    leg = Interface(
        EXTERNAL_DEVICE, gateway.host_mac_address, gateway.mtu, frozenset(gateway.host_addresses), settings, True
    )
    links = [
        Interface(
            link_device(tenant.router_id),
            "",
            gateway.mtu,
            frozenset({tenant.link.outer, OUTER_LINK_LOCAL}),
            interface_settings(link_device(tenant.router_id)),
        )
        for tenant in external.tenants
    ]
    floating = [(each, link_device(tenant.router_id)) for tenant in external.tenants for each in tenant.floating]
    return NamespacePlan(
        name=external_namespace(gateway.network_id),
        sysctls=FORWARDING,
        interfaces=(leg, *links),
        routes=frozenset(_routes(external)),
        rules=frozenset(),
        neighbours={},
        proxies=frozenset((EXTERNAL_DEVICE, address) for address, _ in floating),
        table=_table(external, [address for address, _ in floating]),
    )


def _routes(external: External) -> list[RouteEntry]:
    """Of two tenants with one subnet that is to be seen outside, the first has it."""
    ways: dict[IpNetwork, RouteEntry] = {}
    # Also without an address of the host: floating IPs need none.
    for next_hop in external.gateway.next_hops:
        everywhere = ip_network("0.0.0.0/0" if next_hop.version == 4 else "::/0")
        ways[everywhere] = RouteEntry(everywhere, next_hop, EXTERNAL_DEVICE)
    for tenant in external.tenants:
        device = link_device(tenant.router_id)
        for address in tenant.floating:
            destination = IPv4Network(address)
            ways.setdefault(destination, RouteEntry(destination, tenant.link.inner.ip, device))
        for subnet in tenant.subnets:
            way = tenant.link.inner.ip if subnet.version == 4 else INNER_LINK_LOCAL.ip
            ways.setdefault(subnet, RouteEntry(subnet, way, device))
    return list(ways.values())


def clashes(external: External) -> dict[str, str]:
    """Router id → what of it can't be had outside, since an earlier router has it."""
    owners: dict[object, str] = {}
    found: dict[str, str] = {}
    for tenant in external.tenants:
        for each in (*tenant.floating, *tenant.subnets):
            owner = owners.setdefault(each, tenant.router_id)
            if owner != tenant.router_id:
                found[tenant.router_id] = f"{each} already leads to router {owner} on this host"
    return found


# ---- rules


def _table(external: External, floating: list[IPv4Address]) -> Table:
    hosts = [each.ip for each in external.gateway.host_addresses]
    first = next((each for each in hosts if each.version == 4), None)
    subnets = [subnet for tenant in external.tenants for subnet in tenant.subnets]
    visible = {
        version: collapse_addresses(
            [
                *(ip_network(each) for each in (*hosts, *floating) if each.version == version),
                *(each for each in subnets if each.version == version),
            ]  # type: ignore[type-var]
        )
        for version in (4, 6)
    }
    sets = (
        Set("hosts", "ipv4_addr", frozenset(str(each) for each in hosts if each.version == 4)),
        Set("floating", "ipv4_addr", frozenset(map(str, floating))),
        Set("visible", "ipv4_addr", _elements(visible[4]), interval=True),
        Set("visible6", "ipv6_addr", _elements(visible[6]), interval=True),
        Set("links", "ipv4_addr", frozenset(), dynamic=True),
    )
    return Table("inet", "cirra", sets, (_RAW, _translate(first), _visible(first), _INPUT, _FORWARD))


def _elements(networks: object) -> frozenset[str]:
    """As nft lists them: a prefix of one address is that address."""
    return frozenset(str(each).removesuffix("/32").removesuffix("/128") for each in networks)  # type: ignore[attr-defined]


_RAW = Chain(
    "raw",
    "filter",
    "prerouting",
    -300,
    (
        Rule(f"ip daddr {_LINKS} counter drop", "links are nobody's to address"),
        Rule(f'iifname "{EXTERNAL_DEVICE}" ip daddr @floating notrack', "floating IPs are the routers' to translate"),
        Rule(
            f'iifname "{LINK_PREFIX}*" ip saddr @floating ip daddr != @hosts notrack',
            "and back; but for answers to those who came by the host's address",
        ),
        Rule("meta nfproto ipv6 notrack", "nothing is translated"),
    ),
)
_INPUT = Chain(
    "input",
    "filter",
    "input",
    0,
    (
        Rule("meta l4proto { icmp, ipv6-icmp } accept", "the host's address answers a ping"),
        Rule("counter drop", "nothing else is served here"),
    ),
)
_FORWARD = Chain(
    "forward",
    "filter",
    "forward",
    0,
    (
        Rule(f'iifname "{EXTERNAL_DEVICE}" oifname "{EXTERNAL_DEVICE}" counter drop', "no way from outside to outside"),
        Rule(
            f"ip saddr {_LINKS} ct state new "
            f"add @links {{ ip saddr ct count over {_ROUTER_CONNECTIONS} }} counter drop",
            "no router has all connections to itself",
        ),
    ),
)


def _translate(host: IPv4Address | None) -> Chain:
    rules = [Rule(f"ip saddr {_LINKS} snat ip to {host}", "routers' guests without a floating IP")] if host else []
    return Chain("outwards", "nat", "postrouting", 100, tuple(rules))


def _visible(host: IPv4Address | None) -> Chain:
    out = f'oifname "{EXTERNAL_DEVICE}"'
    rules = [
        Rule(f"{out} meta nfproto ipv4 ip saddr != @visible counter drop", "others' addresses are not seen outside"),
        Rule(
            f"{out} meta nfproto ipv6 ip6 saddr != fe80::/10 ip6 saddr != @visible6 counter drop",
            "nor are these",
        ),
    ]
    if host is not None:
        errors = f"{out} ip protocol icmp ip saddr {_LINKS} ip saddr set {host}"
        rules.insert(0, Rule(errors, "errors that a router tells of what it does not translate"))
    return Chain("visible", "filter", "postrouting", 200, tuple(rules))
