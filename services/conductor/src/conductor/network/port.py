"""The port: an address on a network, bound to the hosts where its guest is, or moves to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field, replace
from uuid import UUID

from google.protobuf.field_mask_pb2 import FieldMask

from cirra.agent.v1 import desired_pb2 as agent
from cirra.network.v1 import events_pb2 as pb
from cirra.network.v1 import network_pb2 as public
from conductor import quotas, references
from conductor.hosts.observation import Observation, ReportClock
from conductor.network.binding import Binding
from conductor.network.network import address_scope
from conductor.network.port_security import IN_NO_GROUP, PortSecurity, guard
from conductor.requests import require_live
from conductor.turn import Turn
from core.aggregate import Aggregate, applies, constrains
from core.errors import FailedPrecondition
from core.eventlog.types import Constraint, UniqueClaim, UniqueRelease


def mac_scope(network_id: str) -> str:
    """The unique scope whose keys are the MAC addresses in use on a network."""
    return f"mac/{network_id}"


class Port(Aggregate, kind="port"):
    """`bindings`: by host. `leased_ips` and `seen_ips`: what DHCP gave and ARP showed, each once."""

    project_id: str = ""
    network_id: str = ""
    display_name: str = ""
    mac_address: str = ""
    # `subnet` holds the subnet's uid.
    fixed_ips: list[public.FixedIp] = field(default_factory=list)
    device_id: str = ""
    owned_by_device: bool = False
    security: PortSecurity = IN_NO_GROUP
    qos: public.BandwidthLimits = field(default_factory=public.BandwidthLimits)
    bindings: dict[str, Binding] = field(default_factory=dict)
    # Of the newest desired state on any host.
    generation: int = 0
    leased_ips: list[str] = field(default_factory=list)
    seen_ips: list[str] = field(default_factory=list)
    deleted: bool = False
    # Bindings given up before their host, out of reach, had said that the port is gone from it.
    lingering: dict[str, Binding] = field(default_factory=dict)
    report_clocks: dict[str, ReportClock] = field(default_factory=dict)
    # By task: the highest attempt that took a binding back.
    left_attempts: dict[str, int] = field(default_factory=dict)
    # Those that lead to it.
    floating_ips: set[str] = field(default_factory=set)

    @property
    def resource_name(self) -> str:
        return f"projects/{self.project_id}/ports/{self.id}"

    @property
    def next_generation(self) -> int:
        return self.generation + 1

    def observation(self, host: str) -> Observation[agent.PortObserved] | None:
        """What a host last said; None before it did, or when the port is not bound there."""
        binding = self.bindings.get(host)
        return None if binding is None else binding.observation

    def is_leaving(self, host: str) -> bool:
        """Whether it is bound there, and shall be absent."""
        binding = self.bindings.get(host)
        return binding is not None and binding.desired.absent

    # --- decisions

    @classmethod
    def create(
        cls,
        port_id: UUID,
        *,
        project_id: str,
        network_id: str,
        mac_address: str,
        fixed_ips: Sequence[public.FixedIp],
        display_name: str = "",
        device_id: str = "",
        owned_by_device: bool = False,
        security: PortSecurity = IN_NO_GROUP,
        qos: public.BandwidthLimits | None = None,
    ) -> Port:
        """`owned_by_device`: made for the instance `device_id`, and deleted with it."""
        port = cls.new(port_id)
        port.record(
            pb.PortCreated(
                project_id=project_id,
                network_id=network_id,
                display_name=display_name,
                mac_address=mac_address,
                fixed_ips=fixed_ips,
                device_id=device_id,
                owned_by_device=owned_by_device,
                security_group_ids=security.group_ids,
                allowed_address_pairs=security.pairs,
                port_security_disabled=not security.enabled,
                qos=qos,
            )
        )
        return port

    def secure(self, security: PortSecurity) -> None:
        """What it is guarded by from now on, also where it is bound. Raises NotFound when deleted."""
        require_live(self)
        paths = security.differs_in(self.security)
        if not paths:
            return
        before = self.security.group_ids
        self.record(
            pb.PortUpdated(
                update_mask=FieldMask(paths=paths),
                security_group_ids=security.group_ids,
                allowed_address_pairs=security.pairs,
                port_security_disabled=not security.enabled,
                joined_group_ids=[group for group in security.group_ids if group not in before],
                left_group_ids=[group for group in before if group not in security.group_ids],
            )
        )
        self._renew_bindings()

    def _renew_bindings(self) -> None:
        """Its hosts shall have it as it is now."""
        for host, binding in list(self.bindings.items()):
            if binding.desired.absent:
                continue
            wanted = agent.DesiredObject()
            wanted.CopyFrom(binding.desired)
            guard(wanted.port, self.security)
            if not _same_wish(binding.desired, wanted):
                self._desire(host, binding.state, wanted, None)

    def set_device(self, device_id: str) -> None:
        """An instance takes the port. Raises FailedPrecondition when another has it."""
        require_live(self)
        if self.device_id == device_id:
            return
        self.require_unused()
        self.record(pb.PortDeviceSet(device_id=device_id))

    def release_device(self) -> None:
        """The instance goes: a port made for it goes too, one that was there before is free again."""
        if self.deleted:
            return
        if self.owned_by_device:
            self._delete()
        elif self.device_id:
            self.record(pb.PortDeviceSet(device_id=""))

    def bind(
        self,
        host: str,
        state: public.PortBindingState.ValueType,
        wanted: agent.DesiredObject,
        turn: Turn | None = None,
    ) -> agent.DesiredObject:
        """What the host shall make of it; answers it with its generation.

        The same wish again is one wish, unless the host has failed at it: then it is a new one.
        Raises FailedPrecondition for another instance than that which has the port, and for a turn that was left.
        """
        require_live(self)
        if wanted.port.instance_id != self.device_id:
            raise FailedPrecondition(
                f"port {self.id} is not instance {wanted.port.instance_id}'s", reason="PORT_NOT_OF_INSTANCE"
            )
        if turn is not None:
            turn.require_beyond(self.left_attempts.get(turn.task_id, 0))
        present = self.bindings.get(host)
        if present is None or present.state != state or present.failure is not None:
            return self._desire(host, state, wanted, turn)
        return present.desired if _same_wish(present.desired, wanted) else self._desire(host, state, wanted, turn)

    def unbind(self, host: str, turn: Turn | None = None) -> agent.DesiredObject | None:
        """It shall be absent there. The binding is kept until `binding_removed`. None when there is nothing to unbind.

        With a turn, absent is wished also where it was never bound: what that turn still binds later is refused.
        A turn that was left before finds nothing to unbind: a binding is a later one's.
        """
        present = self.bindings.get(host)
        left = turn is None or turn.attempt <= self.left_attempts.get(turn.task_id, 0)
        if present is None and left:
            return None
        if present is not None and present.desired.absent and present.failure is None:
            return present.desired
        if present is not None and not present.desired.absent and turn is not None and left:
            return None
        state = public.PORT_BINDING_STATE_INACTIVE if present is None else present.state
        wanted = agent.DesiredObject(host=host, agent="net", kind="port", object_id=str(self.id), absent=True)
        return self._desire(host, state, wanted, turn)

    def add_floating_ip(self, floating_ip: public.PortFloatingIp) -> None:
        """One leads to it now. Raises NotFound when deleted."""
        require_live(self).record(pb.PortFloatingIpAdded(floating_ip=floating_ip))

    def remove_floating_ip(self, floating_ip_id: str) -> None:
        """One leads elsewhere now. What is so already, or was deleted, is no event."""
        if not self.deleted and floating_ip_id in self.floating_ips:
            self.record(pb.PortFloatingIpRemoved(floating_ip_id=floating_ip_id))

    def binding_removed(self, host: str) -> None:
        """The host has confirmed, or is out of reach and learns of it when it returns. A later attempt's stays."""
        if self.is_leaving(host):
            self.record(pb.PortBindingRemoved(host=host))

    def observe(self, report: agent.Report) -> None:
        """A host's claim. Older ones, ones about older wishes, and ones that change nothing leave no trace."""
        binding = self.bindings.get(report.host) or self.lingering.get(report.host)
        if binding is None or report.generation < binding.generation:
            return
        clock = self.report_clocks.get(report.host, ReportClock())
        observed = Observation(report.generation, report.port, report.failure)
        if not clock.is_news(report) or observed == binding.observation:
            return
        self.record(
            pb.PortBindingObserved(
                host=report.host,
                boot_id=report.boot_id,
                sequence=report.sequence,
                generation=report.generation,
                observed=report.port,
                failure=report.failure if report.HasField("failure") else None,
            )
        )

    def lease_seen(self, host: str, lease: agent.LeaseSeen) -> None:
        """DHCP gave the guest this address: an event the first time."""
        if not self.deleted and lease.ip_address not in self.leased_ips:
            self.record(pb.PortLeaseSeen(host=host, ip_address=lease.ip_address, client_hostname=lease.client_hostname))

    def address_seen(self, host: str, seen: agent.AddressSeen) -> None:
        """The guest was seen using this address, and perhaps to have a lease on it: each is an event the first time."""
        if seen.HasField("lease"):
            self.lease_seen(host, seen.lease)
        if not self.deleted and seen.ip_address not in self.seen_ips:
            self.record(pb.PortAddressSeen(host=host, ip_address=seen.ip_address))

    def delete(self) -> None:
        """Raises NotFound when deleted, FailedPrecondition while an instance has it."""
        require_live(self).require_unused()
        self._delete()

    def require_unused(self) -> None:
        if self.device_id:
            raise FailedPrecondition(
                f"port {self.id} is in use by instance {self.device_id}",
                reason="PORT_IN_USE",
                remedy="delete the instance first",
                metadata={"device_id": self.device_id},
            )

    def _delete(self) -> None:
        self.record(
            pb.PortDeleted(
                project_id=self.project_id,
                network_id=self.network_id,
                mac_address=self.mac_address,
                fixed_ips=self.fixed_ips,
                security_group_ids=self.security.group_ids,
            )
        )

    def _desire(
        self,
        host: str,
        state: public.PortBindingState.ValueType,
        wanted: agent.DesiredObject,
        turn: Turn | None,
    ) -> agent.DesiredObject:
        desired = agent.DesiredObject()
        desired.CopyFrom(wanted)
        desired.generation = self.next_generation
        event = pb.PortBindingDesired(host=host, state=state, desired=desired)
        if turn is not None:
            event.task_id, event.attempt = turn.task_id, turn.attempt
        self.record(event)
        return desired

    # --- what happened

    @applies(pb.PortCreated)
    def _created(self, event: pb.PortCreated) -> None:
        self.project_id, self.network_id = event.project_id, event.network_id
        self.display_name, self.mac_address = event.display_name, event.mac_address
        self.fixed_ips = list(event.fixed_ips)
        self.device_id, self.owned_by_device = event.device_id, event.owned_by_device
        self.security = PortSecurity.of(event)
        self.qos = event.qos

    @applies(pb.PortUpdated)
    def _updated(self, event: pb.PortUpdated) -> None:
        self.security = PortSecurity.of(event)

    @applies(pb.PortDeviceSet)
    def _device_set(self, event: pb.PortDeviceSet) -> None:
        self.device_id = event.device_id

    @applies(pb.PortBindingDesired)
    def _binding_desired(self, event: pb.PortBindingDesired) -> None:
        present = self.bindings.get(event.host)
        self.bindings[event.host] = Binding(
            event.state, event.desired, None if present is None else present.observation
        )
        self.lingering.pop(event.host, None)
        self.generation = event.desired.generation
        if event.desired.absent and event.task_id:
            self.left_attempts[event.task_id] = max(event.attempt, self.left_attempts.get(event.task_id, 0))

    @applies(pb.PortBindingObserved)
    def _binding_observed(self, event: pb.PortBindingObserved) -> None:
        clock = self.report_clocks.get(event.host, ReportClock())
        self.report_clocks[event.host] = clock.after(event.host, event.boot_id, event.sequence)
        observation = Observation(event.generation, event.observed, event.failure)
        if event.host in self.bindings:
            self.bindings[event.host] = replace(self.bindings[event.host], observation=observation)
        elif event.host in self.lingering:
            binding = replace(self.lingering[event.host], observation=observation)
            self._linger(event.host, binding)

    @applies(pb.PortBindingRemoved)
    def _binding_removed(self, event: pb.PortBindingRemoved) -> None:
        self._linger(event.host, self.bindings.pop(event.host))

    def _linger(self, host: str, binding: Binding) -> None:
        if binding.gone:
            self.lingering.pop(host, None)
        else:
            self.lingering[host] = binding

    @applies(pb.PortLeaseSeen)
    def _lease_seen(self, event: pb.PortLeaseSeen) -> None:
        self.leased_ips.append(event.ip_address)

    @applies(pb.PortAddressSeen)
    def _address_seen(self, event: pb.PortAddressSeen) -> None:
        self.seen_ips.append(event.ip_address)

    @applies(pb.PortFloatingIpAdded)
    def _floating_ip_added(self, event: pb.PortFloatingIpAdded) -> None:
        self.floating_ips.add(event.floating_ip.floating_ip)

    @applies(pb.PortFloatingIpRemoved)
    def _floating_ip_removed(self, event: pb.PortFloatingIpRemoved) -> None:
        self.floating_ips.discard(event.floating_ip_id)

    @applies(pb.PortDeleted)
    def _deleted(self, event: pb.PortDeleted) -> None:
        self.deleted = True


def _same_wish(present: agent.DesiredObject, wanted: agent.DesiredObject) -> bool:
    copy = agent.DesiredObject()
    copy.CopyFrom(wanted)
    copy.generation = present.generation
    return copy == present


@constrains(pb.PortCreated)
def _begins(port_id: UUID, event: pb.PortCreated) -> Iterator[Constraint]:
    yield quotas.usage("ports", event.project_id, 1)
    yield references.used(references.NETWORK_PORTS, event.network_id)
    yield UniqueClaim(mac_scope(event.network_id), event.mac_address, str(port_id))
    for fixed in event.fixed_ips:
        yield references.used(references.SUBNET_PORTS, fixed.subnet)
        yield UniqueClaim(address_scope(fixed.subnet), fixed.ip_address, str(port_id))
    for group_id in event.security_group_ids:
        yield references.used(references.SECURITY_GROUP_PORTS, group_id)


@constrains(pb.PortUpdated)
def _updated(port_id: UUID, event: pb.PortUpdated) -> Iterator[Constraint]:
    for group_id in event.joined_group_ids:
        yield references.used(references.SECURITY_GROUP_PORTS, group_id)
    for group_id in event.left_group_ids:
        yield references.given_up(references.SECURITY_GROUP_PORTS, group_id)


@constrains(pb.PortDeleted)
def _ends(port_id: UUID, event: pb.PortDeleted) -> Iterator[Constraint]:
    yield quotas.usage("ports", event.project_id, -1)
    yield references.given_up(references.NETWORK_PORTS, event.network_id)
    yield UniqueRelease(mac_scope(event.network_id), event.mac_address, str(port_id))
    for fixed in event.fixed_ips:
        yield references.given_up(references.SUBNET_PORTS, fixed.subnet)
        yield UniqueRelease(address_scope(fixed.subnet), fixed.ip_address, str(port_id))
    for group_id in event.security_group_ids:
        yield references.given_up(references.SECURITY_GROUP_PORTS, group_id)
