"""Which addresses a port may use, by MAC address. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

from core import eui64
from net_agent.model import AllowedPair, Port
from net_agent.model.checker import IpAddress, IpNetwork

# Ports of a host that changes one of them do not have to be thought over again.
MANY_PORTS = 4096


@dataclass(frozen=True, slots=True)
class Sender:
    """What may be sent from one MAC address. Ranges of each family: ordered, none within another."""

    mac_address: str
    ipv4: tuple[IPv4Network, ...]
    ipv6: tuple[IPv6Network, ...]


def senders(port: Port) -> tuple[Sender, ...]:
    """The port's own first; then those of allowed address pairs."""
    return _senders(port.mac_address, port.addresses, port.allowed_pairs)


@lru_cache(MANY_PORTS)
def _senders(
    mac_address: str, addresses: tuple[IpAddress, ...], allowed_pairs: tuple[AllowedPair, ...]
) -> tuple[Sender, ...]:
    own: list[IpNetwork] = [ip_network(str(address)) for address in addresses]
    ranges = {mac_address: own}
    for pair in allowed_pairs:
        ranges.setdefault(pair.mac_address, []).append(pair.addresses)
    return tuple(_sender(each, own) for each, own in ranges.items())


def reachable(port: Port) -> tuple[IpNetwork, ...]:
    """All addresses at which a port is the other end of a flow."""
    found: list[IpNetwork] = []
    for sender in senders(port):
        found += [*sender.ipv4, *sender.ipv6]
    return tuple(found)


def _sender(mac_address: str, ranges: Sequence[IpNetwork]) -> Sender:
    """With the address on the link that its guest makes of the MAC address."""
    own = IPv6Network(eui64.address_of_mac(eui64.LINK_LOCAL, mac_address))
    ipv6 = [own, *(each for each in ranges if isinstance(each, IPv6Network))]
    ipv4 = [each for each in ranges if isinstance(each, IPv4Network)]
    return Sender(mac_address, tuple(collapse_addresses(ipv4)), tuple(collapse_addresses(ipv6)))


def texts(ranges: Iterable[IpNetwork]) -> str:
    """As nft has one, or a set of them. Not for none."""
    found = [text_of(each) for each in ranges]
    return found[0] if len(found) == 1 else f"{{ {', '.join(found)} }}"


def text_of(value: IpNetwork | IpAddress) -> str:
    """A range of one address as that address: so nft lists it."""
    if isinstance(value, IPv4Network | IPv6Network) and value.num_addresses == 1:
        return str(value.network_address)
    return str(value)
