"""Which tracked connections the rules still let pass: the chains' question, asked of what is there. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from net_agent.drivers.linux.guard.addresses import reachable
from net_agent.drivers.linux.guard.groups import dhcp_servers
from net_agent.model import METADATA_ADDRESS, METADATA_ADDRESS_IPV6, Port, SecurityGroup, SecurityGroupRule
from net_agent.model.checker import IpAddress, IpNetwork

TCP, UDP = 6, 17
_METADATA = (METADATA_ADDRESS, METADATA_ADDRESS_IPV6)
_DHCP = ((68, 67), (546, 547))


@dataclass(frozen=True, slots=True)
class Flow:
    """A connection as its first packet was. ICMP has types and codes for ports. `ended`: it is kept from going on."""

    source: IpAddress
    destination: IpAddress
    protocol: int
    source_port: int = 0
    destination_port: int = 0
    icmp_id: int = 0
    icmp_type: int = 0
    icmp_code: int = 0
    ended: bool = False


class Verdicts:
    """Of the ports of one network. members: group → its addresses."""

    def __init__(
        self,
        ports: Sequence[Port],
        groups: Mapping[str, SecurityGroup],
        members: Mapping[str, Sequence[IpNetwork]],
    ) -> None:
        self._groups = groups
        self._members = members
        self._of_address: defaultdict[IpAddress, list[Port]] = defaultdict(list)
        self._of_range: list[tuple[IpNetwork, Port]] = []
        for port in ports:
            for each in reachable(port):
                if each.num_addresses == 1:
                    self._of_address[each.network_address].append(port)
                else:
                    self._of_range.append((each, port))

    def allow(self, flow: Flow) -> bool:
        """Whether it would be let pass if it began now. What is no guest's of this host is not for us to end.

        Where several ports may use an address, one that lets it pass is enough.
        """
        senders, receivers = self._ports_at(flow.source), self._ports_at(flow.destination)
        return (not senders or any(self._sends(port, flow) for port in senders)) and (
            not receivers or any(self._receives(port, flow) for port in receivers)
        )

    def _ports_at(self, address: IpAddress) -> list[Port]:
        found = list(self._of_address.get(address, ()))
        return found + [port for each, port in self._of_range if each.version == address.version and address in each]

    def _sends(self, port: Port, flow: Flow) -> bool:
        if port.unguarded:
            return True
        if flow.protocol == UDP and (flow.source_port, flow.destination_port) in _DHCP:
            return True
        if flow.protocol == TCP and flow.destination_port == 80 and flow.destination in _METADATA:
            return True
        return any(self._passes(rule, flow, flow.destination) for rule in self._rules(port, egress=True))

    def _receives(self, port: Port, flow: Flow) -> bool:
        if port.unguarded:
            return True
        if flow.protocol == UDP and (flow.source_port, flow.destination_port) == (67, 68):
            return flow.source in dhcp_servers(port)
        return any(self._passes(rule, flow, flow.source) for rule in self._rules(port, egress=False))

    def _rules(self, port: Port, *, egress: bool) -> Iterator[SecurityGroupRule]:
        for group_id in port.security_group_ids:
            if group_id in self._groups:
                yield from (rule for rule in self._groups[group_id].rules if rule.egress == egress)

    def _passes(self, rule: SecurityGroupRule, flow: Flow, other_end: IpAddress) -> bool:
        if rule.ip_version != other_end.version or rule.protocol not in (None, flow.protocol):
            return False
        if rule.ports is not None and not rule.ports[0] <= flow.destination_port <= rule.ports[1]:
            return False
        if rule.icmp_type not in (None, flow.icmp_type) or rule.icmp_code not in (None, flow.icmp_code):
            return False
        if rule.remote_group_id is not None:
            return _within(other_end, self._members.get(rule.remote_group_id, ()))
        return rule.remote_cidr is None or other_end in rule.remote_cidr


def _within(address: IpAddress, ranges: Iterable[IpNetwork]) -> bool:
    return any(address in each for each in ranges)


@dataclass(frozen=True, slots=True)
class Sentence:
    """What is to be done about connections. TCP is ended by a mark: deleted, it would be taken up again by the next
    packet of the end that may send. Others are deleted: where both ends use one port for ever, a mark would outlive the
    rule's return, and what one end may send begins a connection of its own."""

    end: tuple[Flow, ...]
    revive: tuple[Flow, ...]
    delete: tuple[Flow, ...]


def judge(flows: Iterable[Flow], verdicts: Verdicts) -> Sentence:
    end, revive, delete = [], [], []
    for flow in flows:
        allowed = verdicts.allow(flow)
        if allowed and flow.ended:
            revive.append(flow)
        elif not allowed and flow.protocol != TCP:
            delete.append(flow)
        elif not allowed and not flow.ended:
            end.append(flow)
    return Sentence(tuple(end), tuple(revive), tuple(delete))
