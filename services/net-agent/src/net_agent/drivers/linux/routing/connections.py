"""Connections that a namespace translates (conntrack(8)): those that no rule would make any more are ended.

Rules decide about the first packet of a connection only: one to a floating address goes on to where it once led. The
judgement is pure, the rest blocks and acts on the calling thread's namespace.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, NFCTSocket

_LINKS = IPv4Network("169.254.0.0/16")


@dataclass(frozen=True, slots=True)
class Connection:
    """As it was asked for, and as it is answered: where the two differ, it is translated."""

    source: IPv4Address
    destination: IPv4Address
    answered_by: IPv4Address
    answered_to: IPv4Address


def stale_in_router(
    inwards: Mapping[IPv4Address, IPv4Address], outwards: Mapping[IPv4Address, IPv4Address]
) -> Callable[[Connection], bool]:
    """inwards: floating → fixed. outwards: fixed → floating. Says of a connection whether these wouldn't make it."""

    def stale(connection: Connection) -> bool:
        if connection.answered_by != connection.destination:
            return inwards.get(connection.destination) != connection.answered_by
        if connection.answered_to != connection.source and connection.answered_to not in _LINKS:
            return outwards.get(connection.source) != connection.answered_to
        return False

    return stale


def stale_in_external(links: Set[IPv4Address], hosts: Set[IPv4Address]) -> Callable[[Connection], bool]:
    """links: of routers that have their way out here. hosts: what they are translated to."""

    def stale(connection: Connection) -> bool:
        if connection.answered_to == connection.source:
            return False
        return connection.source not in links or connection.answered_to not in hosts

    return stale


def end(stale: Callable[[Connection], bool]) -> int:
    """Ends all that are stale; says how many."""
    ended = 0
    with NFCTSocket() as conntrack:
        for message in list(conntrack.dump()):
            found = _read(message)
            if found is not None and stale(found[0]):
                ended += _delete(conntrack, found[1])
    return ended


def _delete(conntrack: NFCTSocket, original: NFCTAttrTuple) -> bool:
    try:
        conntrack.entry("del", tuple_orig=original)
    except NetlinkError as error:
        # It has ended by itself.
        if error.code == errno.ENOENT:
            return False
        raise
    return True


def _read(message: Any) -> tuple[Connection, NFCTAttrTuple] | None:
    """None: not IPv4."""
    original, reply = message.get("CTA_TUPLE_ORIG"), message.get("CTA_TUPLE_REPLY")
    ends = [*_ends(original), *_ends(reply)]
    if len(ends) != 4:
        return None
    source, destination, answered_by, answered_to = map(IPv4Address, ends)
    protocol = original.get("CTA_TUPLE_PROTO")
    fields = {
        "proto": protocol.get("CTA_PROTO_NUM"),
        "sport": protocol.get("CTA_PROTO_SRC_PORT"),
        "dport": protocol.get("CTA_PROTO_DST_PORT"),
        "icmp_id": protocol.get("CTA_PROTO_ICMP_ID"),
        "icmp_type": protocol.get("CTA_PROTO_ICMP_TYPE"),
        "icmp_code": protocol.get("CTA_PROTO_ICMP_CODE"),
    }
    whole = NFCTAttrTuple(saddr=str(source), daddr=str(destination), **fields)
    return Connection(source, destination, answered_by, answered_to), whole


def _ends(direction: Any) -> Iterator[str]:
    addresses = direction.get("CTA_TUPLE_IP") if direction is not None else None
    if addresses is not None and addresses.get("CTA_IP_V4_SRC"):
        yield addresses.get("CTA_IP_V4_SRC")
        yield addresses.get("CTA_IP_V4_DST")
