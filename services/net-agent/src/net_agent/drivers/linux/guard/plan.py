"""All that the tables are made from, and the tables by it: the one place that knows what a host's firewall shall be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import collapse_addresses, ip_network

from net_agent.drivers.linux.guard import names
from net_agent.drivers.linux.guard.addresses import text_of
from net_agent.drivers.linux.guard.groups import LIMITS, Limits
from net_agent.drivers.linux.ruleset import Set
from net_agent.model import GroupMember, Network, Port, SecurityGroup
from net_agent.model.checker import IpNetwork

_VERSIONS = (4, 6)
_SET_TYPES = {4: "ipv4_addr", 6: "ipv6_addr"}


@dataclass(frozen=True, slots=True)
class Plan:
    """ports: those that have, or had until a moment ago, a tap here. groups: of those. members: group → addresses.

    devices: what is on a network's bridge beside taps; uplinks: what of it leads off this host, the rest are services,
    with the same addresses on every host. zones: network → its conntrack zone. marks: tap → its number, also of taps
    that no record tells of. limits: of each port.
    """

    ports: tuple[Port, ...]
    networks: tuple[Network, ...]
    groups: Mapping[str, SecurityGroup]
    members: Mapping[str, tuple[IpNetwork, ...]]
    devices: Mapping[str, frozenset[str]]
    uplinks: frozenset[str]
    zones: Mapping[str, int]
    marks: Mapping[str, int]
    limits: Limits = LIMITS

    @property
    def is_empty(self) -> bool:
        """There is nothing to guard: no port, no network, no tap that somebody else's record may tell of."""
        return not (self.ports or self.networks or self.marks)

    def member_sets(self) -> Iterator[Set]:
        """One per family for each group that a rule names as the other end."""
        named = {
            (rule.remote_group_id, rule.ip_version)
            for group in self.groups.values()
            for rule in group.rules
            if rule.remote_group_id is not None
        }
        for group_id, version in sorted(named):
            ranges = (each for each in self.members.get(group_id, ()) if each.version == version)
            name = names.members_set(group_id, version)
            yield Set(name, _SET_TYPES[version], frozenset(map(text_of, ranges)), interval=True)


def groups_in_use(ports: Iterable[Port], known: Mapping[str, SecurityGroup]) -> dict[str, SecurityGroup]:
    ids = {group_id for port in ports if not port.unguarded for group_id in port.security_group_ids}
    return {group_id: known[group_id] for group_id in sorted(ids & known.keys())}


def members_of_groups(members: Iterable[GroupMember]) -> dict[str, tuple[IpNetwork, ...]]:
    """group → the addresses of its members, as few ranges as hold them."""
    found: defaultdict[str, list[IpNetwork]] = defaultdict(list)
    for member in members:
        for group_id in member.group_ids:
            found[group_id] += [ip_network(address) for address in member.addresses]
    return {group_id: _collapsed(ranges) for group_id, ranges in found.items()}


def _collapsed(ranges: list[IpNetwork]) -> tuple[IpNetwork, ...]:
    return tuple(
        each
        for version in _VERSIONS
        for each in collapse_addresses(it for it in ranges if it.version == version)  # type: ignore[type-var]
    )
