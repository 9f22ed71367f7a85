"""What of a port can be changed, and how a host is told of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from cirra.agent.v1 import desired_pb2 as agent
from cirra.network.v1 import events_pb2 as events
from cirra.network.v1 import network_pb2 as public
from conductor.network.bandwidth import bandwidth_spec
from conductor.network.port_security import IN_NO_GROUP, PortSecurity, guard


@dataclass(frozen=True, slots=True)
class PortTerms:
    """`fixed_ips`: `subnet` holds the subnet's uid; the first is the one that the port is known by."""

    display_name: str = ""
    fixed_ips: tuple[public.FixedIp, ...] = ()
    qos: public.BandwidthLimits = field(default_factory=public.BandwidthLimits)
    security: PortSecurity = IN_NO_GROUP

    @classmethod
    def of(cls, event: events.PortCreated | events.PortUpdated) -> PortTerms:
        return cls(event.display_name, tuple(event.fixed_ips), event.qos, PortSecurity.of(event))

    def differs_in(self, other: PortTerms) -> list[str]:
        """The fields of a public port that tell of the difference."""
        plain = (each.name for each in fields(self) if each.name != "security")
        paths = [name for name in plain if getattr(self, name) != getattr(other, name)]
        return paths + self.security.differs_in(other.security)


def describe(spec: agent.PortSpec, terms: PortTerms) -> None:
    """Tells a host's port of them."""
    del spec.addresses[:]
    for fixed in terms.fixed_ips:
        spec.addresses.add(subnet_id=fixed.subnet, ip_address=fixed.ip_address)
    spec.bandwidth.CopyFrom(bandwidth_spec(terms.qos))
    guard(spec, terms.security)
