"""Names: the network's own, and those of the outside."""

from __future__ import annotations

from ipaddress import IPv4Address

from net_agent.diagnosis.finding import Finding, broken, not_applicable, ok, unknown
from net_agent.diagnosis.hops.groups import kept_in
from net_agent.diagnosis.hops.services import NO_VOICE, RECONCILE
from net_agent.diagnosis.path import GuestPath
from net_agent.diagnosis.probe import frames
from net_agent.diagnosis.probe.dns import DnsReply, read_reply
from net_agent.diagnosis.probe.frames import Datagram, Frame
from net_agent.drivers.linux.dns_probe import question
from net_agent.drivers.linux.dnsmasq_config import host_name


async def dns(path: GuestPath) -> Finding:
    """The guest's own name, asked in its name of the server that DHCP tells it."""
    server = path.own[1].server if path.own else None
    if path.own is None or server is None:
        return not_applicable("the guest is told of no DNS server of ours")
    if path.voice is None:
        return unknown("NO_TAP", NO_VOICE)
    if (kept := kept_in(path, "udp", server, 53)) is not None:
        return kept
    own, name = path.own[0], f"{host_name(path.port)}.{path.network.dns_domain}"
    reply = await path.once("dns own", lambda: resolve(path, name, server))
    if reply is None:
        return broken(
            "DNS_NO_ANSWER",
            f"{server} does not answer a question for {name}",
            f"see that dnsmasq of the network runs, and what is between: {path.paths.log}",
        )
    if own not in reply.addresses:
        told = ", ".join(str(each) for each in reply.addresses) or reply.code
        return broken("DNS_WRONG_ANSWER", f"{server} says that {name} is {told}; it is {own}", RECONCILE)
    return ok(f"{server} says that {name} is {own}")


async def dns_outside(path: GuestPath) -> Finding:
    """A name of the outside, asked of the same server, which has to ask those that the subnet names."""
    server = path.own[1].server if path.own else None
    nameservers = [str(each) for subnet in path.network.served_subnets for each in subnet.dns_nameservers]
    if path.own is None or server is None or not nameservers:
        return not_applicable("the subnets name no DNS servers of the outside")
    if path.voice is None:
        return unknown("NO_TAP", NO_VOICE)
    if (kept := kept_in(path, "udp", server, 53)) is not None:
        return kept
    name, asked = path.targets.name, ", ".join(nameservers)
    reply = await path.once("dns outside", lambda: resolve(path, name, server))
    remedy = f"see that {asked} can be reached from the network and serves it, or name others: cirra subnet set"
    if reply is None:
        return broken("DNS_FORWARDERS_SILENT", f"{server} has no answer for {name} from {asked}", remedy)
    if reply.code not in ("NOERROR", "NXDOMAIN"):
        return broken("DNS_FORWARDERS_REFUSE", f"{server} answers {reply.code} for {name}: {asked} say so", remedy)
    told = ", ".join(str(each) for each in reply.addresses) or reply.code
    return ok(f"{server} says that {name} is {told} (from {asked})")


async def resolve(path: GuestPath, name: str, server: IPv4Address) -> DnsReply | None:
    """Asks in the guest's name, for the A records of a name."""
    assert path.voice is not None and path.own is not None
    number = path.number() & 0xFFFF
    sport = 49152 + path.draw.getrandbits(13)
    packet = frames.udp(path.own[0], server, sport, 53, question(name, number))

    def answer(frame: Frame) -> DnsReply | None:
        said = frame.content
        if isinstance(said, Datagram) and (said.source, said.sport, said.dport) == (server, 53, sport):
            return read_reply(said.payload, number)
        return None

    return await path.voice.ask(f"DNS for {name}", path.packet(path.service_mac, packet), answer)
