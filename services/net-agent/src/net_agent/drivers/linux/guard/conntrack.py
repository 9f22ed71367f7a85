"""Tracked connections of a zone, in the calling thread's namespace (linux/netfilter/nfnetlink_conntrack.h). Blocks."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

from pyroute2 import NFCTSocket
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple

from net_agent.drivers.linux.guard.flows import Flow, Sentence
from net_agent.drivers.linux.guard.names import ENDED_MARK

_ICMP = {socket.IPPROTO_ICMP: "CTA_PROTO_ICMP", socket.IPPROTO_ICMPV6: "CTA_PROTO_ICMPV6"}
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def flows_of(zone: int) -> list[Flow]:
    return [flow for version in _FAMILIES for flow in _flows(zone, version)]


def carry_out(zone: int, sentence: Sentence) -> None:
    """A connection that has ended by itself meanwhile is none to be changed."""
    for flows, verb, values in (
        (sentence.end, "set", {"mark": ENDED_MARK}),
        (sentence.revive, "set", {"mark": 0}),
        (sentence.delete, "del", {}),
    ):
        for flow in flows:
            with NFCTSocket(nfgen_family=_FAMILIES[flow.source.version]) as connections:
                try:
                    connections.entry(verb, tuple_orig=_tuple(flow), zone=zone, **values)
                except NetlinkError as error:
                    if error.code != errno.ENOENT:
                        raise


def _flows(zone: int, version: int) -> Iterator[Flow]:
    with NFCTSocket(nfgen_family=_FAMILIES[version]) as connections:
        for entry in connections.dump(zone=zone):
            # Kernels before 6.8 tell of every zone.
            if (entry.get_attr("CTA_ZONE") or 0) == zone and entry["nfgen_family"] == _FAMILIES[version]:
                yield _flow(entry, version)


def _flow(entry: Any, version: int) -> Flow:
    first = entry.get_attr("CTA_TUPLE_ORIG")
    addresses, protocol = first.get_attr("CTA_TUPLE_IP"), first.get_attr("CTA_TUPLE_PROTO")
    number = protocol.get_attr("CTA_PROTO_NUM")
    icmp = _ICMP.get(number, "CTA_PROTO_ICMP")
    return Flow(
        source=ip_address(addresses.get_attr(f"CTA_IP_V{version}_SRC")),
        destination=ip_address(addresses.get_attr(f"CTA_IP_V{version}_DST")),
        protocol=number,
        source_port=protocol.get_attr("CTA_PROTO_SRC_PORT") or 0,
        destination_port=protocol.get_attr("CTA_PROTO_DST_PORT") or 0,
        icmp_id=protocol.get_attr(f"{icmp}_ID") or 0,
        icmp_type=protocol.get_attr(f"{icmp}_TYPE") or 0,
        icmp_code=protocol.get_attr(f"{icmp}_CODE") or 0,
        ended=entry.get_attr("CTA_MARK") == ENDED_MARK,
    )


def _tuple(flow: Flow) -> NFCTAttrTuple:
    fields: dict[str, Any] = {
        "family": _FAMILIES[flow.source.version],
        "saddr": str(flow.source),
        "daddr": str(flow.destination),
        "proto": flow.protocol,
    }
    if flow.protocol in _ICMP:
        fields |= {"icmp_id": flow.icmp_id, "icmp_type": flow.icmp_type, "icmp_code": flow.icmp_code}
    elif flow.source_port or flow.destination_port:
        fields |= {"sport": flow.source_port, "dport": flow.destination_port}
    return NFCTAttrTuple(**fields)
