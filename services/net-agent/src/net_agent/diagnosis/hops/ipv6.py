"""What a guest needs of its network by IPv6: advertisements, a gateway, names, the outside."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

from core.eui64 import LINK_LOCAL, address_of_mac
from net_agent.diagnosis.finding import Finding, broken, not_applicable, ok, unknown
from net_agent.diagnosis.hops.groups import kept_in
from net_agent.diagnosis.hops.routing import Way, way_on
from net_agent.diagnosis.hops.services import NO_VOICE, RECONCILE
from net_agent.diagnosis.path import GuestPath
from net_agent.diagnosis.probe import frames, frames6
from net_agent.diagnosis.probe.advertisement import Advertisement, advertisement
from net_agent.diagnosis.probe.dns import TYPE_AAAA, DnsReply, read_reply
from net_agent.diagnosis.probe.frames import Datagram, Frame
from net_agent.drivers.linux.dns_probe import question
from net_agent.drivers.linux.dnsmasq_config import host_name
from net_agent.model import Subnet

_NO_IPV6 = "the port has no IPv6 address"


async def advertised(path: GuestPath) -> Finding:
    """A solicitation in the guest's name: is its prefix advertised, and does its router say that it is one?"""
    own = path.own6
    if own is None or not own[1].slaac:
        return not_applicable(_NO_IPV6 if own is None else "the guest is told its IPv6 address otherwise")
    if path.voice is None:
        return unknown("NO_TAP", NO_VOICE)
    way = way_on(path, own[1])
    if await _solicited(path, own[1], None) is None:
        seen = f"no router advertisement has {own[1].cidr}, of which the guest makes its address"
        return broken("ADVERTISEMENT_MISSING", seen, f"{RECONCILE}; dnsmasq's: {path.paths.log}")
    if way is None:
        return ok(f"{own[1].cidr} is advertised")
    router = address_of_mac(LINK_LOCAL, way.interface.mac_address)
    if await _solicited(path, own[1], router) is None:
        seen = f"{own[1].cidr} is advertised, but {way.namespace} does not say that it is the router"
        return broken("ROUTER_NOT_ADVERTISED", seen, RECONCILE)
    return ok(f"{own[1].cidr} is advertised, by the router {router} too")


async def _solicited(path: GuestPath, subnet: Subnet, router: IPv6Address | None) -> Advertisement | None:
    """An advertisement of the subnet's prefix; of this router, if one is named."""
    assert path.voice is not None and isinstance(subnet.cidr, IPv6Network)
    mac = path.port.mac_address
    packet = frames6.router_solicitation(path.link_local, mac)
    frame = path.packet6(frames6.group_mac(frames6.ALL_ROUTERS), packet)

    def answer(heard: Frame) -> Advertisement | None:
        said = advertisement(heard)
        if said is None or subnet.cidr not in said.prefixes:
            return None
        return said if router is None or (said.router == router and said.lifetime_s) else None

    return await path.voice.ask("router solicitation", frame, answer)


async def gateway(path: GuestPath) -> Finding:
    """Neighbour discovery in the guest's name for the gateway's link-local address, or the provider's router's own."""
    own = path.own6
    if own is None:
        return not_applicable(_NO_IPV6)
    address, way = _gateway(path, own[1]), way_on(path, own[1])
    if address is None:
        return not_applicable("the guest's IPv6 subnet has neither a router nor a gateway on an uplink")
    if path.voice is None:
        return unknown("NO_TAP", NO_VOICE)
    mac = await path.mac6_of(address)
    if mac is None:
        seen = f"nobody answers neighbour discovery for {address}"
        return broken("GATEWAY_SILENT", seen, "see what drops it: cirra network diagnose --capture")
    if way is not None and mac != way.interface.mac_address:
        seen = f"{address} answers from {mac}; the router's is {way.interface.mac_address}"
        return broken("GATEWAY_FOREIGN", seen, f"look for who else has {address} on the network: {mac}")
    return ok(f"{address} answers neighbour discovery from {mac}")


def _gateway(path: GuestPath, subnet: Subnet) -> IPv6Address | None:
    way = way_on(path, subnet)
    if way is not None:
        return address_of_mac(LINK_LOCAL, way.interface.mac_address)
    return subnet.gateway_ip if path.network.physical_network and isinstance(subnet.gateway_ip, IPv6Address) else None


async def dns(path: GuestPath) -> Finding:
    """The guest's own name, asked by IPv6 of the server that advertisements tell it."""
    own = path.own6
    server = own[1].dhcp_ip if own is not None else None
    if own is None or not isinstance(server, IPv6Address):
        return not_applicable(_NO_IPV6 if own is None else "the guest is told of no DNS server of ours")
    if path.voice is None:
        return unknown("NO_TAP", NO_VOICE)
    if (kept := kept_in(path, "udp", server, 53)) is not None:
        return kept
    name = f"{host_name(path.port)}.{path.network.dns_domain}"
    # Who is asked so knows where the answer goes, whatever the guest's system makes of IPv6.
    mac = await path.mac6_of(server)
    reply = await _resolve(path, name, server, mac) if mac is not None else None
    if reply is None:
        silent = "does not answer a question" if mac is not None else "is nobody's: no neighbour answers, to be asked"
        return broken("DNS_NO_ANSWER", f"{server} {silent} for {name}", f"{RECONCILE}; dnsmasq's: {path.paths.log}")
    if own[0] not in reply.addresses:
        told = ", ".join(str(each) for each in reply.addresses) or reply.code
        return broken("DNS_WRONG_ANSWER", f"{server} says that {name} is {told}; it is {own[0]}", RECONCILE)
    return ok(f"{server} says that {name} is {own[0]}")


async def _resolve(path: GuestPath, name: str, server: IPv6Address, mac: str) -> DnsReply | None:
    assert path.voice is not None and path.own6 is not None
    number, sport = path.number() & 0xFFFF, 49152 + path.draw.getrandbits(13)
    packet = frames6.udp6(path.own6[0], server, sport, 53, question(name, number, TYPE_AAAA))

    def answer(frame: Frame) -> DnsReply | None:
        said = frame.content
        if isinstance(said, Datagram) and (said.source, said.sport, said.dport) == (server, 53, sport):
            return read_reply(said.payload, number)
        return None

    return await path.voice.ask(f"DNS for {name} (IPv6)", path.packet6(mac, packet), answer)


async def outside(path: GuestPath) -> Finding:
    """ICMPv6 echo in the guest's name by way of the gateway: to the address that is named for it, or else to the
    provider's router."""
    own = path.own6
    if own is None:
        return not_applicable(_NO_IPV6)
    way = way_on(path, own[1])
    target = path.targets.address6 or _next_hop(way)
    address = _gateway(path, own[1])
    if target is None or address is None or (way is not None and way.router.gateway is None):
        return not_applicable("there is nobody beyond the guest's network to try by IPv6 (CIRRA_DIAGNOSE_ADDRESS_IPV6)")
    if path.voice is None:
        return unknown("NO_TAP", NO_VOICE)
    if (mac := await path.mac6_of(address)) is None:
        return unknown("NO_GATEWAY", f"{address}, the gateway, does not answer: {target} can't be tried")
    if (kept := kept_in(path, "icmp", target)) is not None:
        return kept
    if await _echo(path, target, mac):
        return ok(f"{target} answers ICMPv6 echo, by way of {address}")
    return broken(
        "OUTSIDE_SILENT",
        f"{target} does not answer ICMPv6 echo by way of {address}",
        f"see that the provider routes {own[1].cidr} to this host's address on the external network: nothing of IPv6"
        " is translated",
    )


def _next_hop(way: Way | None) -> IPv6Address | None:
    gateway = way.router.gateway if way is not None else None
    hops = gateway.next_hops if gateway is not None else ()
    return next((hop for hop in hops if isinstance(hop, IPv6Address)), None)


async def _echo(path: GuestPath, target: IPv6Address, next_hop_mac: str) -> bool:
    assert path.voice is not None and path.own6 is not None
    identifier = path.number()
    packet = frames6.echo_request6(path.own6[0], target, identifier)

    def answer(frame: Frame) -> bool | None:
        said = frame.content
        if not isinstance(said, Datagram) or (said.protocol, said.source) != (frames.ICMPV6, target):
            return None
        return True if (said.kind, said.identifier) == (frames.ECHO_REPLY6, identifier) else None

    return bool(await path.voice.ask(f"echo to {target}", path.packet6(next_hop_mac, packet), answer))
