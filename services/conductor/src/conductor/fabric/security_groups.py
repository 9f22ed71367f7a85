"""Security groups, for hosts whose ports are in them; and their members, for hosts on which a rule names the group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial

from cirra.agent.v1 import fabric_pb2 as fabric
from cirra.network.v1 import events_pb2 as pb
from cirra.network.v1 import security_group_pb2 as public
from conductor.fabric.facts import Binding, Facts, GroupRule, Membership
from conductor.fabric.kind import Cell
from conductor.fabric.source import Source
from conductor.network.security_rules import rule_spec
from core.eventlog.types import RecordedEvent

GROUPS = Source()


@GROUPS.on(pb.SecurityGroupCreated)
def _created(facts: Facts, event: RecordedEvent, message: pb.SecurityGroupCreated) -> None:
    for number, rule in enumerate(message.rules):
        _put(facts, event, rule, number)


@GROUPS.on(pb.SecurityGroupRuleAdded)
def _rule_added(facts: Facts, event: RecordedEvent, message: pb.SecurityGroupRuleAdded) -> None:
    _put(facts, event, message.rule, 0)


@GROUPS.on(pb.SecurityGroupRuleRemoved)
def _rule_removed(facts: Facts, event: RecordedEvent, message: pb.SecurityGroupRuleRemoved) -> None:
    facts.group_rules.remove(message.rule.uid)


@GROUPS.on(pb.SecurityGroupDeleted)
def _deleted(facts: Facts, event: RecordedEvent, message: pb.SecurityGroupDeleted) -> None:
    for rule in message.rules:
        facts.group_rules.remove(rule.uid)


def _put(facts: Facts, event: RecordedEvent, rule: public.SecurityGroupRule, number: int) -> None:
    spec = rule_spec(rule)
    facts.group_rules.put(
        GroupRule(spec.rule_id, str(event.aggregate_id), spec.remote_group_id, event.position, number, spec)
    )


@GROUPS.concluding
def _members(facts: Facts) -> None:
    """Who is in which group, on which host: it follows from the bindings, which tell what hosts were told."""
    for before, after in facts.bindings.changed():
        binding = after or before
        assert binding is not None
        wanted = set(_memberships(after)) if after is not None else set()
        for gone in set(_memberships(before)) - wanted if before is not None else ():
            facts.memberships.remove(gone.port_id, gone.host, gone.group_id)
        for each in wanted:
            facts.memberships.put(each)


def _memberships(binding: Binding) -> Iterator[Membership]:
    for group_id in binding.port.security_group_ids:
        yield Membership(binding.port_id, binding.host, group_id)


def hosts_naming(facts: Facts, group_id: str) -> set[str]:
    """Those that have a group with a rule that names this one as the other end."""
    return {host for rule in facts.rules_naming.get(group_id) for host in facts.hosts_of_group.get(rule.group_id)}


def _is_named_on(facts: Facts, host: str, group_id: str) -> bool:
    """Whether `hosts_naming` has the host."""
    return any(facts.members_on_host.get(rule.group_id, host) for rule in facts.rules_naming.get(group_id))


class SecurityGroupKind:
    """Object `security-group`."""

    name = "security-group"

    def affected(self, facts: Facts) -> Iterator[Cell]:
        for before, after in facts.memberships.changed():
            member = after or before
            assert member is not None
            yield member.host, member.group_id
        for group_id in _changed_groups(facts):
            for member in facts.members_of_group.get(group_id):
                yield member.host, group_id

    def spec(self, facts: Facts, host: str, object_id: str) -> fabric.SecurityGroupSpec | None:
        if not facts.members_on_host.get(object_id, host):
            return None
        rules = sorted(facts.rules_of_group.get(object_id), key=lambda rule: (rule.position, rule.number))
        return fabric.SecurityGroupSpec(group_id=object_id, rules=[rule.rule for rule in rules])

    def all(self, facts: Facts) -> Iterator[Cell]:
        yield from {(member.host, member.group_id) for member in facts.memberships}


class GroupMemberKind:
    """Object `group-member`: of a port whose guest runs, for hosts on which rules name one of its groups."""

    name = "group-member"

    def affected(self, facts: Facts) -> Iterator[Cell]:
        # Once for each group: in a rebuild, every port of a group has changed.
        hosts: Callable[[str], set[str]] = cache(partial(self._hosts_before_and_after, facts))
        yield from self._of_ports(facts, hosts)
        for group_id in self._newly_named(facts):
            for member in list(facts.members_of_group.get(group_id)):
                for host in hosts(group_id):
                    yield host, member.port_id

    def _of_ports(self, facts: Facts, hosts: Callable[[str], set[str]]) -> Iterator[Cell]:
        """Ports that came, went, moved, or are in other groups."""
        for before, after in facts.bindings.changed():
            binding = after or before
            assert binding is not None
            # On another host it may be told otherwise yet, and be the active one no more.
            all_of_it = [each for each in (before, *facts.bindings_of_port.get(binding.port_id)) if each is not None]
            for group_id in {group for each in all_of_it for group in each.port.security_group_ids}:
                for host in hosts(group_id):
                    yield host, binding.port_id

    def _newly_named(self, facts: Facts) -> set[str]:
        """Groups that rules name on a host on which they did not, or the reverse."""
        found = {
            rule.remote_group_id
            for change in facts.group_rules.changed()
            for rule in change
            if rule is not None and rule.remote_group_id
        }
        for group_id, _ in facts.group_presence_changes():
            found |= {rule.remote_group_id for rule in facts.rules_of_group.get(group_id) if rule.remote_group_id}
        return found

    def _hosts_before_and_after(self, facts: Facts, group_id: str) -> set[str]:
        hosts = hosts_naming(facts, group_id)
        naming = {rule.group_id for rule in facts.rules_naming.get(group_id)}
        for rule, _ in facts.group_rules.changed():
            if rule is not None and rule.remote_group_id == group_id:
                naming.add(rule.group_id)
                hosts.update(facts.hosts_of_group.get(rule.group_id))
        for before, after in facts.memberships.changed():
            member = before or after
            if member is not None and member.group_id in naming:
                hosts.add(member.host)
        return hosts

    def spec(self, facts: Facts, host: str, object_id: str) -> fabric.GroupMemberSpec | None:
        binding = facts.active_binding(object_id)
        if binding is None:
            return None
        groups = [group for group in binding.port.security_group_ids if _is_named_on(facts, host, group)]
        if not groups:
            return None
        addresses = [address.ip_address for address in binding.port.addresses]
        return fabric.GroupMemberSpec(port_id=object_id, group_ids=groups, ip_addresses=addresses)

    def all(self, facts: Facts) -> Iterator[Cell]:
        hosts: Callable[[str], set[str]] = cache(partial(hosts_naming, facts))
        for member in facts.memberships:
            for host in hosts(member.group_id):
                yield host, member.port_id


def _changed_groups(facts: Facts) -> Iterable[str]:
    return {rule.group_id for change in facts.group_rules.changed() for rule in change if rule is not None}
