"""What probes say, byte for byte, and what is made of what comes back."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest

from net_agent.diagnosis.probe import frames, frames6, messages
from net_agent.diagnosis.probe.advertisement import Advertisement, advertisement, neighbour
from net_agent.diagnosis.probe.dns import DnsReply, read_reply
from net_agent.diagnosis.probe.frames import Arp, Datagram

MAC, OTHER = "fa:16:3e:00:00:0b", "0e:00:00:00:00:01"
GUEST, SERVER = IPv4Address("10.77.0.11"), IPv4Address("10.77.0.2")


def test_arp() -> None:
    request = frames.arp_request(MAC, GUEST, SERVER)
    assert request.hex() == ("fffffffffffffa163e00000b08060001080006040001fa163e00000b0a4d000b0000000000000a4d0002")
    read = frames.parse(request)
    assert read is not None and read.content == Arp(frames.ARP_REQUEST, MAC, GUEST, SERVER)


def test_checksums() -> None:
    """A header with its own checksum sums up to zero (RFC 1071), and so do UDP, TCP and ICMP with theirs."""
    assert frames.checksum(bytes.fromhex("450000730000400040110000c0a80001c0a800c7")) == 0xB861  # Wikipedia's example
    for packet in (
        frames.udp(GUEST, SERVER, 4000, 53, b"odd"),
        frames.tcp_syn(GUEST, SERVER, 4000, 80, 0xFFFFFFFF),
        frames.echo_request(GUEST, SERVER, 0x12345678),
    ):
        assert frames.checksum(packet[:20]) == 0
        body, protocol = packet[20:], packet[9]
        pseudo = b"" if protocol == frames.ICMP else packet[12:20] + bytes([0, protocol]) + len(body).to_bytes(2)
        assert frames.checksum(pseudo + body) == 0


def read(packet: bytes) -> Datagram:
    frame = frames.parse(frames.ethernet(OTHER, MAC, frames.ETH_IPV4, packet))
    assert frame is not None and (frame.destination_mac, frame.source_mac) == (OTHER, MAC)
    assert isinstance(frame.content, Datagram)
    return frame.content


def test_packets_are_read_as_they_were_made() -> None:
    assert read(frames.udp(GUEST, SERVER, 4000, 53, b"odd")) == Datagram(
        GUEST, SERVER, frames.UDP, 4000, 53, payload=b"odd"
    )
    syn = read(frames.tcp_syn(GUEST, SERVER, 4000, 80, 7))
    assert (syn.sport, syn.dport, syn.flags) == (4000, 80, frames.TCP_SYN)
    echo = read(frames.echo_request(GUEST, SERVER, 0x12345678))
    assert (echo.kind, echo.identifier) == (frames.ECHO_REQUEST, 0x12345678)


def test_the_end_of_a_packet_is_not_read_for_its_beginning() -> None:
    packet = bytearray(frames.udp(GUEST, SERVER, 4000, 53, b"odd"))
    packet[6:8] = (185).to_bytes(2)
    frame = frames.parse(frames.ethernet(OTHER, MAC, frames.ETH_IPV4, bytes(packet)))
    assert frame is not None and frame.content is None


def offered(transaction: int, options: bytes) -> bytes:
    head = bytes([2, 1, 6, 0]) + transaction.to_bytes(4) + bytes(8) + GUEST.packed + bytes(216)
    udp = frames.udp(SERVER, GUEST, 67, 68, head + b"\x63\x82\x53\x63" + options)
    return frames.ethernet(MAC, OTHER, frames.ETH_IPV4, udp)


def test_an_offer() -> None:
    frame = frames.parse(offered(7, bytes([0, 53, 1, 2, 54, 4]) + SERVER.packed + b"\xff"))
    assert frame is not None
    assert messages.offer(frame, 7) == messages.Offer(GUEST, SERVER)
    assert messages.offer(frame, 8) is None
    refused = frames.parse(offered(7, bytes([53, 1, 6, 255])))
    assert refused is not None and messages.offer(refused, 7) is None
    own = frames.parse(messages.discover(MAC, 7))
    assert own is not None and messages.offer(own, 7) is None


@pytest.mark.parametrize(
    ("flags", "records", "reply"),
    [
        (0x8180, b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04" + GUEST.packed, DnsReply("NOERROR", (GUEST,))),
        (0x8183, b"", DnsReply("NXDOMAIN", ())),
        (0x8185, b"", DnsReply("REFUSED", ())),
    ],
)
def test_dns(flags: int, records: bytes, reply: DnsReply) -> None:
    question = b"\x01a\x00\x00\x01\x00\x01"
    octets = b"".join(number.to_bytes(2) for number in (9, flags, 1, 1 if records else 0, 0, 0)) + question + records
    assert read_reply(octets, 9) == reply
    assert read_reply(octets, 8) is None
    assert read_reply(octets[:2] + b"\x01\x00" + octets[4:], 9) is None


SIX, GATEWAY = IPv6Address("fd00::b"), IPv6Address("fe80::abcd:1")


def test_checksums_of_ipv6() -> None:
    """With the pseudo-header of RFC 8200, section 8.1, they sum up to zero."""
    for packet in (
        frames6.router_solicitation(SIX, MAC),
        frames6.neighbour_solicitation(SIX, MAC, GATEWAY),
        frames6.echo_request6(SIX, GATEWAY, 0x12345678),
        frames6.udp6(SIX, GATEWAY, 4000, 53, b"odd"),
        frames6.tcp_syn6(SIX, GATEWAY, 50000, 80, 0xFFFF_FFFF),
    ):
        body, protocol = packet[40:], packet[6]
        assert int.from_bytes(packet[4:6]) == len(body)
        assert frames.checksum(packet[8:40] + len(body).to_bytes(4) + bytes([0, 0, 0, protocol]) + body) == 0


def test_groups() -> None:
    assert frames6.solicited_node(GATEWAY) == IPv6Address("ff02::1:ffcd:1")
    assert frames6.group_mac(frames6.solicited_node(GATEWAY)) == "33:33:ff:cd:00:01"


def read6(packet: bytes, to: str = MAC) -> frames.Frame:
    frame = frames.parse(frames.ethernet(to, OTHER, frames.ETH_IPV6, packet))
    assert frame is not None
    return frame


def icmpv6(source: IPv6Address, rest: bytes) -> bytes:
    head = (6 << 28).to_bytes(4) + len(rest).to_bytes(2) + bytes([frames.ICMPV6, 255])
    return head + source.packed + SIX.packed + rest


def test_an_advertisement_of_a_router() -> None:
    """RFC 4861, 4.2: hop limit, flags, lifetime, two timers; a prefix is behind its lifetimes."""
    prefix = bytes([3, 4, 64, 0xC0]) + bytes(12) + IPv6Address("fd00::").packed
    head = bytes([frames.ROUTER_ADVERT, 0, 0, 0, 64, 0]) + (1800).to_bytes(2) + bytes(8)
    said = advertisement(read6(icmpv6(GATEWAY, head + bytes([5, 1, 0, 0, 0, 0, 5, 0xAA]) + prefix)))
    assert said == Advertisement(GATEWAY, 1800, frozenset({IPv6Network("fd00::/64")}))
    assert advertisement(read6(icmpv6(GATEWAY, head + prefix[:20]))) == Advertisement(GATEWAY, 1800, frozenset())
    assert advertisement(read6(frames6.router_solicitation(SIX, MAC))) is None


def test_a_neighbour_that_answers() -> None:
    body = bytes([frames.NEIGHBOUR_ADVERT, 0, 0, 0, 0x60, 0, 0, 0]) + GATEWAY.packed
    assert neighbour(read6(icmpv6(GATEWAY, body)), GATEWAY, MAC) == OTHER
    assert neighbour(read6(icmpv6(GATEWAY, body)), SIX, MAC) is None
    assert neighbour(read6(icmpv6(GATEWAY, body), "33:33:00:00:00:01"), GATEWAY, MAC) is None, "told everybody"


def test_what_nobody_meant_breaks_nothing() -> None:
    """Whatever comes is nothing, or something: no exception."""
    draw = random.Random(29)
    six = [frames6.neighbour_solicitation(SIX, MAC, GATEWAY), icmpv6(GATEWAY, bytes([134]) + bytes(31))]
    seeds = [frames.ethernet(MAC, OTHER, frames.ETH_IPV6, packet) for packet in six]
    seeds += [offered(7, bytes([53, 1, 2, 255])), frames.arp_request(MAC, GUEST, SERVER), messages.discover(MAC, 7)]
    for _ in range(2000):
        octets = bytearray(draw.choice(seeds))
        for _ in range(draw.randint(1, 8)):
            octets[draw.randrange(len(octets))] = draw.randrange(256)
        frame = frames.parse(bytes(octets[: draw.randint(0, len(octets))]))
        if frame is not None:
            messages.offer(frame, 7)
            advertisement(frame)
            neighbour(frame, GATEWAY, MAC)
        read_reply(bytes(octets), int.from_bytes(octets[:2]))
