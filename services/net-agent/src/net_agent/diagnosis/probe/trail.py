"""By what a probe, and the answer to it, are known again wherever they pass (pure).

Addresses are translated on the way; what is looked at isn't: the transaction of DHCP, the identifier of an echo, the
two ports of TCP, the number of a question for a name.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from net_agent.diagnosis.probe import frames
from net_agent.diagnosis.probe.frames import Arp, Datagram, Frame
from net_agent.diagnosis.probe.messages import CLIENT, SERVER

_DNS = 53
_SOLICITED = {frames.ROUTER_SOLICIT: frames.ROUTER_ADVERT, frames.NEIGHBOUR_SOLICIT: frames.NEIGHBOUR_ADVERT}


@dataclass(frozen=True, slots=True)
class Trail:
    """`key`: the same of a probe and of its answer."""

    key: Hashable
    is_answer: bool


def trail(frame: Frame) -> Trail | None:
    """None for what is no probe's, nor an answer to one."""
    match frame.content:
        case Arp(operation=operation) as said:
            answer = operation == frames.ARP_REPLY
            return Trail(("arp", said.sender if answer else said.target), answer)
        case Datagram(protocol=frames.ICMP) as said if said.kind in (frames.ECHO_REQUEST, frames.ECHO_REPLY):
            return Trail(("echo", said.identifier), said.kind == frames.ECHO_REPLY)
        case Datagram(protocol=frames.ICMPV6) as said if said.kind in (frames.ECHO_REQUEST6, frames.ECHO_REPLY6):
            return Trail(("echo", said.identifier), said.kind == frames.ECHO_REPLY6)
        case Datagram(protocol=frames.ICMPV6) as said if said.kind in _SOLICITED.values() or said.kind in _SOLICITED:
            # What a neighbour's solicitation and advertisement both have is whom they are about (RFC 4861, 4.3, 4.4).
            router = said.kind in (frames.ROUTER_SOLICIT, frames.ROUTER_ADVERT)
            key = ("router",) if router else ("neighbour", said.payload[:16])
            return Trail(key, said.kind in _SOLICITED.values())
        case Datagram(protocol=frames.TCP) as said:
            answer = bool(said.flags & (frames.TCP_ACK | frames.TCP_RST))
            return Trail(("tcp", frozenset((said.sport, said.dport))), answer)
        case Datagram(protocol=frames.UDP) as said if {said.sport, said.dport} == {CLIENT, SERVER}:
            return Trail(("dhcp", said.payload[4:8]), said.sport == SERVER)
        case Datagram(protocol=frames.UDP) as said if _DNS in (said.sport, said.dport):
            return Trail(("dns", said.payload[:2]), said.sport == _DNS)
    return None
