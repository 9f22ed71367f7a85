"""A probe and its answer bear the same mark, wherever they pass; others' traffic bears none, or another."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

from net_agent.diagnosis.probe import frames, messages
from net_agent.diagnosis.probe.frames import Arp, Datagram, Frame
from net_agent.diagnosis.probe.trail import Trail, trail

MAC, OTHER = "fa:16:3e:00:00:0b", "0e:00:00:00:00:01"
GUEST, SERVER, OUTSIDE = IPv4Address("10.77.0.11"), IPv4Address("10.77.0.2"), IPv4Address("203.0.113.9")


def of(content: Arp | Datagram) -> Trail | None:
    return trail(Frame(OTHER, MAC, content))


def pair(probe: Datagram, answer: Datagram) -> None:
    asked, answered = of(probe), of(answer)
    assert asked is not None and answered is not None
    assert asked.key == answered.key and (asked.is_answer, answered.is_answer) == (False, True)


def test_pairs() -> None:
    echo = Datagram(GUEST, OUTSIDE, frames.ICMP, kind=frames.ECHO_REQUEST, identifier=7)
    pair(echo, Datagram(OUTSIDE, GUEST, frames.ICMP, kind=frames.ECHO_REPLY, identifier=7))
    syn = Datagram(GUEST, OUTSIDE, frames.TCP, 50000, 22, frames.TCP_SYN)
    pair(syn, Datagram(OUTSIDE, GUEST, frames.TCP, 22, 50000, frames.TCP_SYN | frames.TCP_ACK))
    pair(syn, Datagram(OUTSIDE, GUEST, frames.TCP, 22, 50000, frames.TCP_RST | frames.TCP_ACK))
    dns = Datagram(GUEST, SERVER, frames.UDP, 50000, 53, payload=b"\x12\x34rest")
    pair(dns, Datagram(SERVER, GUEST, frames.UDP, 53, 50000, payload=b"\x12\x34other"))
    discover = frames.parse(messages.discover(MAC, 7))
    assert discover is not None and isinstance(discover.content, Datagram)
    answer = replace(discover.content, sport=67, dport=68)
    pair(discover.content, answer)
    request, reply = Arp(1, MAC, GUEST, SERVER), Arp(2, OTHER, SERVER, GUEST)
    assert of(request) == Trail(("arp", SERVER), is_answer=False) and of(reply) == Trail(("arp", SERVER), True)


def test_a_translated_packet_is_the_same() -> None:
    echo = Datagram(GUEST, OUTSIDE, frames.ICMP, kind=frames.ECHO_REQUEST, identifier=7)
    assert of(echo) == of(replace(echo, source=IPv4Address("203.0.113.1")))
    assert of(echo) != of(replace(echo, identifier=8))


def test_others_leave_no_trail() -> None:
    assert of(Datagram(GUEST, OUTSIDE, frames.UDP, 50000, 4789)) is None
    assert of(Datagram(GUEST, OUTSIDE, frames.ICMP, kind=frames.UNREACHABLE)) is None
    assert trail(Frame(OTHER, MAC, None)) is None
