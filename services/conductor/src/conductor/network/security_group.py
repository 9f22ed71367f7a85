"""The security group: rules on what may pass, for the ports that are in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field
from uuid import UUID

from cirra.agent.v1 import fabric_pb2 as agent
from cirra.network.v1 import events_pb2 as pb
from cirra.network.v1 import security_group_pb2 as public
from conductor import quotas, references
from conductor.fields import Fields
from conductor.network.security_rules import checked_rule, default_rules, rule_spec, same
from conductor.requests import require_live
from core.aggregate import Aggregate, applies, constrains
from core.errors import AlreadyExists, FailedPrecondition, NotFound
from core.eventlog.types import Constraint, UniqueClaim, UniqueRelease
from core.ids import uuid7

DEFAULT = "default"
DEFAULTS = "default-security-group"  # unique scope: project id → owner: its default group
RULES = "security-group-rule"  # unique scope: rule id → owner: its group
MAX_RULES_AT_ONCE = 100
UPDATABLE = ("display_name", "description")


class SecurityGroup(Aggregate, kind="security_group"):
    """`rules`: by id, in the order in which they were added. `uncounted`: those that a default group began with."""

    project_id: str = ""
    display_name: str = ""
    description: str = ""
    is_default: bool = False
    rules: dict[str, public.SecurityGroupRule] = field(default_factory=dict)
    uncounted: frozenset[str] = frozenset()
    deleted: bool = False

    @property
    def resource_name(self) -> str:
        return f"projects/{self.project_id}/securityGroups/{self.id}"

    def spec(self) -> agent.SecurityGroupSpec:
        """What hosts of its ports must know of it."""
        return agent.SecurityGroupSpec(group_id=str(self.id), rules=[rule_spec(rule) for rule in self.rules.values()])

    # --- decisions

    @classmethod
    def create(
        cls, group_id: UUID, wanted: public.SecurityGroup, *, project_id: str, default_rules_too: bool = True
    ) -> SecurityGroup:
        """With the rules wanted, after those that let everything out. Raises InvalidArgument, AlreadyExists."""
        fields = Fields("security_group.")
        _check_name(fields, wanted.display_name, wanted.description)
        if len(wanted.rules) > MAX_RULES_AT_ONCE:
            fields.refuse("rules", f"give at most {MAX_RULES_AT_ONCE}; more can be added afterwards")
        given = [checked_rule(fields, f"rules[{index}]", rule) for index, rule in enumerate(wanted.rules)]
        fields.check()
        rules = default_rules() if default_rules_too else []
        for index, rule in enumerate(given):
            _require_new(f"security_group.rules[{index}]", rule, rules)
            rules.append(rule)
        return cls._made(group_id, project_id, wanted.display_name, wanted.description, rules)

    @classmethod
    def create_default(cls, group_id: UUID, project_id: str) -> SecurityGroup:
        """A project's own: everything out, and everything in from its members. Refused by the log when there is one."""
        rules = default_rules(str(group_id))
        return cls._made(group_id, project_id, DEFAULT, "Of ports that name no group", rules, is_default=True)

    @classmethod
    def _made(
        cls,
        group_id: UUID,
        project_id: str,
        display_name: str,
        description: str,
        rules: Sequence[public.SecurityGroupRule],
        *,
        is_default: bool = False,
    ) -> SecurityGroup:
        for rule in rules:
            rule.uid = str(uuid7())
        group = cls.new(group_id)
        group.record(
            pb.SecurityGroupCreated(
                project_id=project_id,
                display_name=display_name,
                description=description,
                rules=rules,
                is_default=is_default,
            )
        )
        return group

    def update(self, display_name: str, description: str) -> None:
        """Raises NotFound when deleted, InvalidArgument, FailedPrecondition for another name of the default group."""
        require_live(self)
        changed = [
            path
            for path, value in (("display_name", display_name), ("description", description))
            if value != getattr(self, path)
        ]
        if not changed:
            return
        fields = Fields("security_group.")
        if self.is_default and "display_name" in changed:
            raise FailedPrecondition(
                "the default group keeps its name", reason="DEFAULT_GROUP", remedy="make another group"
            )
        _check_name(fields, display_name, description, may_be_default=self.is_default)
        fields.check()
        event = pb.SecurityGroupUpdated()
        event.update_mask.paths.extend(changed)
        for path in changed:
            setattr(event, path, display_name if path == "display_name" else description)
        self.record(event)

    def add_rule(self, rule_id: UUID, wanted: public.SecurityGroupRule) -> None:
        """Raises NotFound when deleted, InvalidArgument, AlreadyExists (DUPLICATE_RULE)."""
        require_live(self)
        fields = Fields()
        rule = checked_rule(fields, "rule", wanted)
        fields.check()
        _require_new("rule", rule, self.rules.values())
        rule.uid = str(rule_id)
        self.record(pb.SecurityGroupRuleAdded(project_id=self.project_id, rule=rule))

    def remove_rule(self, rule_id: str) -> None:
        """Raises NotFound."""
        rule = require_live(self).rules.get(rule_id)
        if rule is None:
            raise NotFound(f"no security group rule {rule_id}", remedy="`cirra security group show` lists the rules")
        self.record(
            pb.SecurityGroupRuleRemoved(project_id=self.project_id, rule=rule, uncounted=rule_id in self.uncounted)
        )

    def delete(self, *, with_project: bool = False) -> None:
        """Refused by the log while a port is in it, or another group's rule names it.

        Raises NotFound when deleted, FailedPrecondition for a default group, unless its project goes.
        """
        require_live(self)
        if self.is_default and not with_project:
            raise FailedPrecondition(
                "the default group can't be deleted: ports that name no group are in it",
                reason="DEFAULT_GROUP",
                remedy="remove its rules instead; it goes with its project",
            )
        self.record(
            pb.SecurityGroupDeleted(
                project_id=self.project_id,
                is_default=self.is_default,
                rules=list(self.rules.values()),
                uncounted_rule_ids=sorted(self.uncounted & self.rules.keys()),
            )
        )

    # --- what happened

    @applies(pb.SecurityGroupCreated)
    def _created(self, event: pb.SecurityGroupCreated) -> None:
        self.project_id, self.is_default = event.project_id, event.is_default
        self.display_name, self.description = event.display_name, event.description
        self.rules = {rule.uid: rule for rule in event.rules}
        self.uncounted = frozenset(self.rules) if event.is_default else frozenset()

    @applies(pb.SecurityGroupUpdated)
    def _updated(self, event: pb.SecurityGroupUpdated) -> None:
        for path in event.update_mask.paths:
            setattr(self, path, getattr(event, path))

    @applies(pb.SecurityGroupRuleAdded)
    def _rule_added(self, event: pb.SecurityGroupRuleAdded) -> None:
        self.rules[event.rule.uid] = event.rule

    @applies(pb.SecurityGroupRuleRemoved)
    def _rule_removed(self, event: pb.SecurityGroupRuleRemoved) -> None:
        del self.rules[event.rule.uid]

    @applies(pb.SecurityGroupDeleted)
    def _deleted(self, event: pb.SecurityGroupDeleted) -> None:
        self.deleted = True


def _check_name(fields: Fields, display_name: str, description: str, *, may_be_default: bool = False) -> None:
    fields.title("display_name", display_name)
    if display_name.strip().lower() == DEFAULT and not may_be_default:
        fields.refuse("display_name", f"{DEFAULT!r} is the project's own group: choose another name")
    fields.title("description", description, required=False)


def _require_new(where: str, rule: public.SecurityGroupRule, others: Iterable[public.SecurityGroupRule]) -> None:
    for other in others:
        if same(rule, other):
            raise AlreadyExists(
                f"{where}: the group has a rule that says the same{f': {other.uid}' if other.uid else ''}",
                reason="DUPLICATE_RULE",
                remedy="nothing is to be done: it is in force already",
                metadata={"field": where, "rule": other.uid},
            )


# --- constraint rows


def _rule_begins(group_id: UUID, rule: public.SecurityGroupRule) -> Iterator[Constraint]:
    yield UniqueClaim(RULES, rule.uid, str(group_id))
    if rule.remote_group and rule.remote_group != str(group_id):
        yield references.used(references.SECURITY_GROUP_RULES, rule.remote_group)


def _rule_ends(group_id: UUID, rule: public.SecurityGroupRule) -> Iterator[Constraint]:
    yield UniqueRelease(RULES, rule.uid, str(group_id))
    if rule.remote_group and rule.remote_group != str(group_id):
        yield references.given_up(references.SECURITY_GROUP_RULES, rule.remote_group)


@constrains(pb.SecurityGroupCreated)
def _begins(group_id: UUID, event: pb.SecurityGroupCreated) -> Iterator[Constraint]:
    if event.is_default:
        yield UniqueClaim(DEFAULTS, event.project_id, str(group_id))
    else:
        yield quotas.usage("security_groups", event.project_id, 1)
        if event.rules:
            yield quotas.usage("security_group_rules", event.project_id, len(event.rules))
    for rule in event.rules:
        yield from _rule_begins(group_id, rule)


@constrains(pb.SecurityGroupRuleAdded)
def _added(group_id: UUID, event: pb.SecurityGroupRuleAdded) -> Iterator[Constraint]:
    yield quotas.usage("security_group_rules", event.project_id, 1)
    yield from _rule_begins(group_id, event.rule)


@constrains(pb.SecurityGroupRuleRemoved)
def _removed(group_id: UUID, event: pb.SecurityGroupRuleRemoved) -> Iterator[Constraint]:
    if not event.uncounted:
        yield quotas.usage("security_group_rules", event.project_id, -1)
    yield from _rule_ends(group_id, event.rule)


@constrains(pb.SecurityGroupDeleted)
def _ends(group_id: UUID, event: pb.SecurityGroupDeleted) -> Iterator[Constraint]:
    for scope in (references.SECURITY_GROUP_PORTS, references.SECURITY_GROUP_RULES):
        yield from references.gone(scope, str(group_id))
    if event.is_default:
        yield UniqueRelease(DEFAULTS, event.project_id, str(group_id))
    else:
        yield quotas.usage("security_groups", event.project_id, -1)
    if counted := len(event.rules) - len(event.uncounted_rule_ids):
        yield quotas.usage("security_group_rules", event.project_id, -counted)
    for rule in event.rules:
        yield from _rule_ends(group_id, rule)
