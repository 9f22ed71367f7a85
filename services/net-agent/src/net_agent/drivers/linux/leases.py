"""dnsmasq's lease file: a line a lease, `expiry mac address hostname client-id`, `*` for what isn't known. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address


@dataclass(frozen=True, slots=True)
class LeaseEntry:
    """client_id: as dnsmasq writes it, octets in hex with colons; empty: the client sent none."""

    mac_address: str
    ip_address: IPv4Address
    hostname: str
    client_id: bytes


def parse(text: str) -> list[LeaseEntry]:
    """Lines that aren't IPv4 leases (DHCPv6's, a half-written one) are left out."""
    entries = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) != 5 or not fields[0].isdigit() or fields[1].count(":") != 5:
            continue
        try:
            address = IPv4Address(fields[2])
            client_id = b"" if fields[4] == "*" else bytes.fromhex(fields[4].replace(":", ""))
        except ValueError:
            continue
        entries.append(LeaseEntry(fields[1].lower(), address, "" if fields[3] == "*" else fields[3], client_id))
    return entries


def without(text: str, unwanted: frozenset[IPv4Address]) -> str:
    """The file's text without the leases on these addresses; everything else as it was."""
    kept = []
    for line in text.splitlines(keepends=True):
        entry = parse(line)
        if not entry or entry[0].ip_address not in unwanted:
            kept.append(line)
    return "".join(kept)
