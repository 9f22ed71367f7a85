"""The network, and its subnets: parts of it, since what they must not do is overlap one another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field
from uuid import UUID

from cirra.agent.v1 import desired_pb2 as agent
from cirra.network.v1 import events_pb2 as pb
from cirra.network.v1 import network_pb2 as public
from conductor import quotas, references
from conductor.fields import Fields
from conductor.network import subnet as subnets
from conductor.network.segments import DEFAULT_SEGMENTS, MIN_MTU, Segments, key_of, scope_of
from conductor.network.subnet import Subnet
from conductor.requests import require_live
from core.aggregate import Aggregate, applies, constrains
from core.errors import FieldViolation, InvalidArgument, NotFound
from core.eventlog.types import Constraint, UniqueClaim, UniqueRelease
from core.ids import bridge_device

DNS_DOMAIN = "novalocal"
MIN_MTU_IPV6 = 1280
UPDATABLE = ("display_name", "mtu")

_KINDS = {
    public.NETWORK_TYPE_FLAT: agent.NETWORK_KIND_FLAT,
    public.NETWORK_TYPE_VLAN: agent.NETWORK_KIND_VLAN,
    public.NETWORK_TYPE_VXLAN: agent.NETWORK_KIND_VXLAN,
}

SUBNETS = "subnet"  # unique scope: subnet id → owner: its network
_USERS_OF_SUBNETS = (
    references.SUBNET_PORTS,
    references.SUBNET_ROUTERS,
    references.SUBNET_FLOATING_IPS,
    references.SUBNET_HOST_ADDRESSES,
)


def address_scope(subnet_id: str) -> str:
    """The unique scope whose keys are the addresses in use of a subnet."""
    return f"address/{subnet_id}"


class Network(Aggregate, kind="network"):
    """`subnets`: by id, in the order in which they were made."""

    project_id: str = ""
    display_name: str = ""
    type: public.NetworkType.ValueType = public.NETWORK_TYPE_FLAT
    mtu: int = 1500
    physical_network: str = ""
    segmentation_id: int = 0
    shared: bool = False
    external: bool = False
    subnets: dict[str, Subnet] = field(default_factory=dict)
    deleted: bool = False

    @property
    def resource_name(self) -> str:
        return f"projects/{self.project_id}/networks/{self.id}"

    def subnet_name(self, subnet_id: str) -> str:
        """A subnet's resource name."""
        return f"projects/{self.project_id}/subnets/{subnet_id}"

    def usable_by(self, project_id: str) -> bool:
        """Whether a project may have ports on it."""
        return self.shared or self.project_id == project_id

    def spec(self) -> agent.NetworkSpec:
        """What a host must know of it to wire a port; `generation` rises with each change of the network."""
        return agent.NetworkSpec(
            network_id=str(self.id),
            generation=self.version,
            bridge=bridge_device(self.id),
            mtu=self.mtu,
            physical_network=self.physical_network,
            subnets=[subnet.spec() for subnet in self.subnets.values()],
            dns_domain=DNS_DOMAIN,
            external=self.external,
            kind=_KINDS[self.type],
            segmentation_id=self.segmentation_id,
        )

    # --- decisions

    @classmethod
    def create(
        cls, network_id: UUID, wanted: public.Network, *, project_id: str, segments: Segments = DEFAULT_SEGMENTS
    ) -> Network:
        """`wanted`: with the number of its segment. Raises InvalidArgument."""
        kind = wanted.type or public.NETWORK_TYPE_FLAT
        cls.check(wanted, segments)
        network = cls.new(network_id)
        network.record(
            pb.NetworkCreated(
                project_id=project_id,
                display_name=wanted.display_name,
                type=kind,
                mtu=wanted.mtu or segments.default_mtu(kind),
                physical_network=wanted.physical_network,
                shared=wanted.shared,
                external=wanted.external,
                segmentation_id=wanted.segmentation_id,
            )
        )
        return network

    @staticmethod
    def check(wanted: public.Network, segments: Segments) -> None:
        """Raises InvalidArgument, with every violation."""
        fields = Fields("network.")
        fields.title("display_name", wanted.display_name)
        segments.check(fields, wanted)
        fields.check()

    def update(self, wanted: public.Network, paths: Sequence[str], *, segments: Segments = DEFAULT_SEGMENTS) -> None:
        """What shall be otherwise; what is so already is no event. Raises InvalidArgument, NotFound when deleted.

        Guests learn another MTU when they renew their leases.
        """
        require_live(self)
        fields = Fields("network.")
        if "display_name" in paths:
            fields.title("display_name", wanted.display_name)
        if "mtu" in paths:
            fields.between("mtu", wanted.mtu, self.min_mtu, segments.max_mtu(self.type), "octets")
        fields.check()
        event = pb.NetworkUpdated()
        for path in UPDATABLE:
            if path in paths and getattr(wanted, path) != getattr(self, path):
                event.update_mask.paths.append(path)
                setattr(event, path, getattr(wanted, path))
        if event.update_mask.paths:
            self.record(event)

    @property
    def min_mtu(self) -> int:
        """IPv6 wants 1280 octets of every link (RFC 8200, section 5)."""
        six = any(subnet.cidr.version == 6 for subnet in self.subnets.values())
        return MIN_MTU_IPV6 if six else MIN_MTU

    def add_subnet(self, subnet_id: UUID, wanted: public.Subnet) -> None:
        """Raises InvalidArgument for ranges that don't fit, also beside the network's other subnets."""
        require_live(self)
        others = [subnet.cidr for subnet in self.subnets.values()]
        event = subnets.created(str(self.id), self.project_id, str(subnet_id), wanted, others)
        if ":" in event.cidr and self.mtu < MIN_MTU_IPV6:
            refused = (
                f"IPv6 wants {MIN_MTU_IPV6} octets of every link, and the network's MTU is {self.mtu}: raise it first"
            )
            raise InvalidArgument(FieldViolation("subnet.cidr", refused))
        self.record(event)

    def update_subnet(self, subnet_id: str, wanted: public.Subnet, paths: Sequence[str]) -> None:
        """What is so already is no event. Raises NotFound, InvalidArgument."""
        event = subnets.updated(str(self.id), self.subnet(subnet_id), wanted, paths)
        if event is not None:
            self.record(event)

    def subnet(self, subnet_id: str) -> Subnet:
        """Raises NotFound."""
        subnet = require_live(self).subnets.get(subnet_id)
        if subnet is None:
            raise NotFound(f"no subnet {subnet_id}")
        return subnet

    def delete_subnet(self, subnet_id: str) -> None:
        """Refused by the log while a port, router or floating IP has an address of it. Raises NotFound."""
        subnet = self.subnet(subnet_id)
        self.record(
            pb.SubnetDeleted(
                network_id=str(self.id),
                subnet_id=subnet_id,
                dhcp_ip=str(subnet.dhcp),
                gateway_ip="" if subnet.gateway is None else str(subnet.gateway),
            )
        )

    def delete(self) -> None:
        """With its subnets; refused by the log while a port or router is on it. Raises NotFound when deleted."""
        require_live(self)
        for subnet_id in list(self.subnets):
            self.delete_subnet(subnet_id)
        self.record(
            pb.NetworkDeleted(
                project_id=self.project_id,
                physical_network=self.physical_network,
                type=self.type,
                segmentation_id=self.segmentation_id,
            )
        )

    # --- what happened

    @applies(pb.NetworkCreated)
    def _created(self, event: pb.NetworkCreated) -> None:
        self.project_id, self.display_name = event.project_id, event.display_name
        self.type, self.mtu = event.type, event.mtu
        self.physical_network, self.shared = event.physical_network, event.shared
        self.external, self.segmentation_id = event.external, event.segmentation_id

    @applies(pb.NetworkUpdated)
    def _updated(self, event: pb.NetworkUpdated) -> None:
        for path in event.update_mask.paths:
            setattr(self, path, getattr(event, path))

    @applies(pb.SubnetCreated)
    def _subnet_created(self, event: pb.SubnetCreated) -> None:
        self.subnets[event.subnet_id] = Subnet.of(event, self.version + 1)

    @applies(pb.SubnetUpdated)
    def _subnet_updated(self, event: pb.SubnetUpdated) -> None:
        self.subnets[event.subnet_id] = self.subnets[event.subnet_id].after(event, self.version + 1)

    @applies(pb.SubnetDeleted)
    def _subnet_deleted(self, event: pb.SubnetDeleted) -> None:
        del self.subnets[event.subnet_id]

    @applies(pb.NetworkDeleted)
    def _deleted(self, event: pb.NetworkDeleted) -> None:
        self.deleted = True


@constrains(pb.NetworkCreated)
def _begins(network_id: UUID, event: pb.NetworkCreated) -> Iterator[Constraint]:
    yield quotas.usage("networks", event.project_id, 1)
    if key := key_of(event.type, event.physical_network, event.segmentation_id):
        yield UniqueClaim(scope_of(event.type, event.physical_network), key, str(network_id))


@constrains(pb.NetworkDeleted)
def _ends(network_id: UUID, event: pb.NetworkDeleted) -> Iterator[Constraint]:
    for users in (references.NETWORK_PORTS, references.NETWORK_GATEWAYS, references.NETWORK_HOST_GATEWAYS):
        yield from references.gone(users, str(network_id))
    yield quotas.usage("networks", event.project_id, -1)
    if key := key_of(event.type, event.physical_network, event.segmentation_id):
        yield UniqueRelease(scope_of(event.type, event.physical_network), key, str(network_id))


@constrains(pb.SubnetCreated)
def _subnet_begins(network_id: UUID, event: pb.SubnetCreated) -> Iterator[Constraint]:
    yield UniqueClaim(SUBNETS, event.subnet_id, str(network_id))
    for address in (event.dhcp_ip, event.gateway_ip):
        if address:
            yield UniqueClaim(address_scope(event.subnet_id), address, event.subnet_id)


@constrains(pb.SubnetDeleted)
def _subnet_ends(network_id: UUID, event: pb.SubnetDeleted) -> Iterator[Constraint]:
    for users in _USERS_OF_SUBNETS:
        yield from references.gone(users, event.subnet_id)
    yield UniqueRelease(SUBNETS, event.subnet_id, str(network_id))
    for address in (event.dhcp_ip, event.gateway_ip):
        if address:
            yield UniqueRelease(address_scope(event.subnet_id), address, event.subnet_id)
