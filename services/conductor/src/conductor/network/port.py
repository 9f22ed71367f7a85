"""The port: an address on a network, bound to the hosts where its guest is, or moves to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import field, replace
from uuid import UUID

from google.protobuf.field_mask_pb2 import FieldMask

from cirra.agent.v1 import desired_pb2 as agent
from cirra.network.v1 import events_pb2 as pb
from cirra.network.v1 import network_pb2 as public
from conductor.hosts.observation import Observation, ReportClock
from conductor.network.binding import Binding, same_wish
from conductor.network.port_claims import mac_scope
from conductor.network.port_security import IN_NO_GROUP, PortSecurity
from conductor.network.port_terms import PortTerms, describe
from conductor.requests import require_live
from conductor.turn import Turn
from core.aggregate import Aggregate, applies
from core.errors import FailedPrecondition

__all__ = ["Port", "mac_scope"]


class Port(Aggregate, kind="port"):
    """`bindings`: by host. `leased_ips` and `seen_ips`: what DHCP gave and ARP showed, each once."""

    project_id: str = ""
    network_id: str = ""
    mac_address: str = ""
    terms: PortTerms = field(default_factory=PortTerms)
    device_id: str = ""
    owned_by_device: bool = False
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
    # Those that lead to it: to which of its addresses.
    floating_ips: dict[str, str] = field(default_factory=dict)

    @property
    def resource_name(self) -> str:
        return f"projects/{self.project_id}/ports/{self.id}"

    @property
    def fixed_ips(self) -> Sequence[public.FixedIp]:
        """`subnet` holds the subnet's uid."""
        return self.terms.fixed_ips

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

    def update(self, terms: PortTerms) -> None:
        """As it shall be from now on, also where it is bound. Raises NotFound when deleted, FailedPrecondition when it
        would lose an address that a floating IP leads to."""
        require_live(self)
        before, paths = self.terms, terms.differs_in(self.terms)
        if not paths:
            return
        released = [fixed for fixed in before.fixed_ips if fixed not in terms.fixed_ips]
        self._require_unreached(released)
        groups, had = terms.security.group_ids, before.security.group_ids
        self.record(
            pb.PortUpdated(
                update_mask=FieldMask(paths=paths),
                display_name=terms.display_name,
                fixed_ips=terms.fixed_ips,
                claimed_fixed_ips=[fixed for fixed in terms.fixed_ips if fixed not in before.fixed_ips],
                released_fixed_ips=released,
                security_group_ids=groups,
                allowed_address_pairs=terms.security.pairs,
                port_security_disabled=not terms.security.enabled,
                joined_group_ids=[group for group in groups if group not in had],
                left_group_ids=[group for group in had if group not in groups],
                qos=terms.qos,
            )
        )
        self._renew_bindings()

    def _require_unreached(self, released: Iterable[public.FixedIp]) -> None:
        for fixed in released:
            for floating_ip_id, address in self.floating_ips.items():
                if address == fixed.ip_address:
                    raise FailedPrecondition(
                        f"port.fixed_ips: floating IP {floating_ip_id} leads to {address} of port {self.id}",
                        reason="FLOATING_IP_LEADS_THERE",
                        remedy="disassociate it first, or keep the address",
                        metadata={"field": "port.fixed_ips", "floating_ip": floating_ip_id},
                    )

    def _renew_bindings(self) -> None:
        """Its hosts shall have it as it is now."""
        for host, binding in list(self.bindings.items()):
            if binding.desired.absent:
                continue
            wanted = agent.DesiredObject()
            wanted.CopyFrom(binding.desired)
            describe(wanted.port, self.terms)
            if not same_wish(binding.desired, wanted):
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
        return present.desired if same_wish(present.desired, wanted) else self._desire(host, state, wanted, turn)

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
                security_group_ids=self.terms.security.group_ids,
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
        self.mac_address, self.terms = event.mac_address, PortTerms.of(event)
        self.device_id, self.owned_by_device = event.device_id, event.owned_by_device

    @applies(pb.PortUpdated)
    def _updated(self, event: pb.PortUpdated) -> None:
        self.terms = PortTerms.of(event)
        # One that it has no more, and gets again, is seen anew.
        gone = {fixed.ip_address for fixed in event.released_fixed_ips}
        self.leased_ips = [address for address in self.leased_ips if address not in gone]
        self.seen_ips = [address for address in self.seen_ips if address not in gone]

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
        self.floating_ips[event.floating_ip.floating_ip] = event.floating_ip.fixed_ip_address

    @applies(pb.PortFloatingIpRemoved)
    def _floating_ip_removed(self, event: pb.PortFloatingIpRemoved) -> None:
        self.floating_ips.pop(event.floating_ip_id, None)

    @applies(pb.PortDeleted)
    def _deleted(self, event: pb.PortDeleted) -> None:
        self.deleted = True
