"""What instances hold, recomputed from the events of the public contract alone: no service's code is asked."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from cirra.agent.v1 import desired_pb2 as agent
from cirra.compute.v1 import events_pb2 as compute
from cirra.network.v1 import events_pb2 as network
from cirra.network.v1.network_pb2 import FixedIp
from cirra.placement.v1 import events_pb2 as placement
from core.eventlog.log import EventLog
from core.eventlog.types import RecordedEvent
from core.ids import claim_aggregate_id
from core.testing.invariants_routers import Place, RoutedHoldings, floating_ip_violations
from core.testing.invariants_violation import Invariant, Violation

_CAPACITY = ("vcpus", "memory_mib", "disk_gib")


@dataclass(slots=True)
class _Instance:
    created: compute.InstanceCreated
    host: str = ""
    task_id: str = ""
    deleted: bool = False
    # Hosts that were told to have it, or to have nothing of it, and have not said that nothing is left.
    present_on: set[str] = field(default_factory=set)
    # Hosts that have said that they have it, and nothing else since.
    built_on: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Port:
    created: network.PortCreated
    device_id: str
    group_ids: Sequence[str]
    fixed_ips: Sequence[FixedIp]


@dataclass(slots=True)
class _Claim:
    """`pending`: what was given up on hosts that still have the guest."""

    held: placement.ClaimMade | None = None
    pending: dict[int, placement.ClaimMade] = field(default_factory=dict)

    def standing(self) -> list[placement.ClaimMade]:
        return [*([self.held] if self.held is not None else []), *self.pending.values()]


class Holdings:
    """The instances, living ports and claims after some events. `bindings`: port → the hosts that may have it.

    `others`: what else counts for a quota and lives: its id → the resource and the project.
    """

    def __init__(self, events: Iterable[RecordedEvent]) -> None:
        self.instances: dict[UUID, _Instance] = {}
        self.ports: dict[UUID, _Port] = {}
        self.claims: dict[UUID, _Claim] = {}
        self.bindings: dict[UUID, set[str]] = {}
        self.others: dict[UUID, tuple[str, str]] = {}
        self.routed = RoutedHoldings()
        for event in events:
            self.routed.apply(event)
            match event.aggregate_type:
                case "instance":
                    self._instance(event)
                case "port":
                    self._port(event)
                case "claim":
                    self._claim(event)
                case "network" | "key_pair":
                    self._other(event)
                case "security_group":
                    self._security_group(event)

    def _instance(self, event: RecordedEvent) -> None:
        kind, data = event.type.rpartition(".")[2], event.data
        if kind == "InstanceCreated":
            created = compute.InstanceCreated.FromString(data)
            self.instances[event.aggregate_id] = _Instance(created, task_id=created.task_id)
            return
        instance = self.instances[event.aggregate_id]
        if kind == "InstanceHostAssigned":
            instance.host = compute.InstanceHostAssigned.FromString(data).host
        elif kind == "InstanceHostReleased":
            instance.host = ""
        elif kind == "InstanceTaskStarted":
            instance.task_id = compute.InstanceTaskStarted.FromString(data).task_id
        elif kind == "InstanceTaskEnded":
            instance.task_id = ""
        elif kind == "InstanceDomainDesired":
            instance.present_on.add(compute.InstanceDomainDesired.FromString(data).desired.host)
        elif kind == "InstanceDomainObserved":
            observed = compute.InstanceDomainObserved.FromString(data)
            if observed.observed.state == agent.DOMAIN_STATE_ABSENT and not observed.HasField("failure"):
                instance.present_on.discard(observed.host)
            if observed.HasField("failure") or observed.observed.state == agent.DOMAIN_STATE_ABSENT:
                instance.built_on.discard(observed.host)
            else:
                instance.built_on.add(observed.host)
        elif kind == "InstanceDeleted":
            instance.deleted = True

    def _port(self, event: RecordedEvent) -> None:
        kind = event.type.rpartition(".")[2]
        if kind == "PortCreated":
            created = network.PortCreated.FromString(event.data)
            self.ports[event.aggregate_id] = _Port(
                created, created.device_id, created.security_group_ids, created.fixed_ips
            )
        elif kind == "PortBindingDesired":
            host = network.PortBindingDesired.FromString(event.data).host
            self.bindings.setdefault(event.aggregate_id, set()).add(host)
        elif kind == "PortBindingRemoved":
            host = network.PortBindingRemoved.FromString(event.data).host
            self.bindings.get(event.aggregate_id, set()).discard(host)
        elif kind == "PortUpdated":
            updated, port = network.PortUpdated.FromString(event.data), self.ports[event.aggregate_id]
            port.group_ids, port.fixed_ips = updated.security_group_ids, updated.fixed_ips
        elif kind == "PortDeviceSet":
            self.ports[event.aggregate_id].device_id = network.PortDeviceSet.FromString(event.data).device_id
        elif kind == "PortDeleted":
            del self.ports[event.aggregate_id]

    def _other(self, event: RecordedEvent) -> None:
        match event.type.rpartition(".")[2]:
            case "NetworkCreated":
                project = network.NetworkCreated.FromString(event.data).project_id
                self.others[event.aggregate_id] = ("networks", project)
            case "KeyPairCreated":
                project = compute.KeyPairCreated.FromString(event.data).project_id
                self.others[event.aggregate_id] = ("key_pairs", project)
            case "NetworkDeleted" | "KeyPairDeleted":
                del self.others[event.aggregate_id]

    def _security_group(self, event: RecordedEvent) -> None:
        """And its rules. A default group, and the rules that it began with, count for nothing."""
        match event.type.rpartition(".")[2]:
            case "SecurityGroupCreated":
                created = network.SecurityGroupCreated.FromString(event.data)
                if created.is_default:
                    return
                self.others[event.aggregate_id] = ("security_groups", created.project_id)
                for rule in created.rules:
                    self.others[UUID(rule.uid)] = ("security_group_rules", created.project_id)
            case "SecurityGroupRuleAdded":
                added = network.SecurityGroupRuleAdded.FromString(event.data)
                self.others[UUID(added.rule.uid)] = ("security_group_rules", added.project_id)
            case "SecurityGroupRuleRemoved":
                self.others.pop(UUID(network.SecurityGroupRuleRemoved.FromString(event.data).rule.uid), None)
            case "SecurityGroupDeleted":
                for rule in network.SecurityGroupDeleted.FromString(event.data).rules:
                    self.others.pop(UUID(rule.uid), None)
                self.others.pop(event.aggregate_id, None)

    def _claim(self, event: RecordedEvent) -> None:
        kind = event.type.rpartition(".")[2]
        claim = self.claims.setdefault(event.aggregate_id, _Claim())
        if kind == "ClaimMade":
            claim.held = placement.ClaimMade.FromString(event.data)
        elif kind == "ClaimReleased":
            released = placement.ClaimReleased.FromString(event.data)
            if claim.pending.pop(released.attempt, None) is None:
                claim.held = None
        elif kind == "ClaimCleanupPending":
            if claim.held is not None:
                claim.pending[claim.held.attempt] = claim.held
            claim.held = None


async def holding_violations(log: EventLog, events: Sequence[RecordedEvent]) -> list[Violation]:
    """Of claims, ports, addresses, and what is counted. *events*: all, from position 1 on."""
    holdings = Holdings(events)
    return [
        *_claim_violations(holdings),
        *_port_violations(holdings),
        *floating_ip_violations(holdings.routed, holdings.ports),
        *await _address_violations(log, holdings),
        *await _usage_violations(log, holdings),
    ]


def _claim_violations(holdings: Holdings) -> Iterator[Violation]:
    claimants = {claim_aggregate_id(instance_id): instance_id for instance_id in holdings.instances}
    for claim_id, claim in holdings.claims.items():
        instance_id = claimants.get(claim_id)
        instance = None if instance_id is None else holdings.instances[instance_id]
        for made in claim.pending.values():
            if instance is None or made.host not in instance.present_on:
                text = f"is pending clean-up on {made.host}, which has nothing of it"
                yield Violation(Invariant.CLAIM, f"claim of instance {instance_id}", text)
        if claim.held is None:
            continue
        subject = f"claim of instance {instance_id or '?'} on {claim.held.host}"
        if instance is None or instance.deleted:
            yield Violation(Invariant.CLAIM, subject, "is held, and the instance is gone")
        elif not instance.task_id and instance.host != claim.held.host:
            yield Violation(Invariant.CLAIM, subject, f"is held, and the instance is on {instance.host or 'no host'}")
    for instance_id, instance in holdings.instances.items():
        held = holdings.claims.get(claim_aggregate_id(instance_id), _Claim()).held
        if instance.host and not instance.task_id and not instance.deleted and held is None:
            yield Violation(Invariant.CLAIM, f"instance {instance_id}", f"is on {instance.host} without a claim")


def _port_violations(holdings: Holdings) -> Iterator[Violation]:
    for port_id, port in holdings.ports.items():
        if port.device_id:
            device = holdings.instances.get(UUID(port.device_id))
            if device is None or device.deleted:
                text = f"lives on, and its instance {port.device_id} is gone"
                yield Violation(Invariant.PORT, f"port {port_id}", text)


def held(holdings: Holdings) -> tuple[dict[Place, str], list[Violation]]:
    """Each address and MAC with who holds it, and those that two hold."""
    right: dict[Place, str] = {}
    twice: list[Violation] = []

    def holds(place: Place, owner: str) -> None:
        other = right.setdefault(place, owner)
        if other != owner:
            twice.append(Violation(Invariant.PORT, " ".join(place), f"is held by {other} and by {owner}"))

    for port_id, port in holdings.ports.items():
        holds((f"mac/{port.created.network_id}", port.created.mac_address), str(port_id))
        for fixed in port.fixed_ips:
            holds((f"address/{fixed.subnet}", fixed.ip_address), str(port_id))
    for place, owner in holdings.routed.claims():
        holds(place, owner)
    return right, twice


async def _address_violations(log: EventLog, holdings: Holdings) -> list[Violation]:
    """Rows of addresses and MACs against those who hold them, both ways.

    Those that a subnet keeps for itself are its.
    """
    right, twice = held(holdings)
    rows = await log.pool.fetch(
        f"SELECT scope, key, owner FROM \"{log.schema}\".unique_keys WHERE scope LIKE 'mac/%' OR scope LIKE 'address/%'"
    )
    found = {(row["scope"], row["key"]): row["owner"] for row in rows if row["scope"] != f"address/{row['owner']}"}
    return twice + [
        Violation(
            Invariant.PORT,
            " ".join(key),
            f"is in use by {found.get(key, 'none')}, and should be by {right.get(key, 'none')} that lives",
        )
        for key in sorted(found.keys() | right.keys())
        if found.get(key) != right.get(key)
    ]


async def _usage_violations(log: EventLog, holdings: Holdings) -> list[Violation]:
    """Quotas and capacity: what is counted against what there is.

    Of every quota that anything was ever counted or limited for: of what no event here tells, there must be none.
    """
    rows = await log.pool.fetch(f"SELECT DISTINCT scope FROM \"{log.schema}\".counters WHERE scope LIKE 'quota/%'")
    right: dict[str, Counter[str]] = defaultdict(Counter, {row["scope"]: Counter[str]() for row in rows})
    right |= {f"capacity/{resource}": Counter[str]() for resource in _CAPACITY}
    for instance in holdings.instances.values():
        if not instance.deleted:
            project, flavor = instance.created.project_id, instance.created.flavor
            right["quota/instances"][project] += 1
            right["quota/vcpus"][project] += flavor.vcpus
            right["quota/memory_mib"][project] += flavor.memory_mib
    for port in holdings.ports.values():
        right["quota/ports"][port.created.project_id] += 1
        right["ports-in-security-group"].update(port.group_ids)
    for resource, project in [*holdings.others.values(), *holdings.routed.counted.values()]:
        right[f"quota/{resource}"][project] += 1
    for claim in holdings.claims.values():
        for made in claim.standing():
            for resource in _CAPACITY:
                right[f"capacity/{resource}"][made.host] += getattr(made.resources, resource)
    found: list[Violation] = []
    for scope, counted in right.items():
        used = {key: counter.used for key, counter in (await log.counters(scope)).items()}
        found += _count_differences(scope, used, counted)
    return found


def _count_differences(scope: str, rows: Mapping[str, int], counted: Mapping[str, int]) -> Iterator[Violation]:
    for key in sorted(rows.keys() | counted.keys()):
        if rows.get(key, 0) != counted.get(key, 0):
            text = f"{rows.get(key, 0)} counted, {counted.get(key, 0)} there"
            yield Violation(Invariant.USAGE, f"{scope} {key}", text)
