"""A port: where a guest of this host meets its network."""

from __future__ import annotations

from dataclasses import dataclass

from cirra.agent.v1 import desired_pb2
from net_agent.model.checker import Checker, IpAddress, IpNetwork
from net_agent.model.network import Network, checked_network, network_to_spec


@dataclass(frozen=True, slots=True)
class AllowedPair:
    """What a port may use beside its own: a range of addresses, from this MAC address."""

    addresses: IpNetwork
    mac_address: str


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Ingress: to the guest. Units of 1,000 bits (a second); 0: unlimited, and for a burst: what suits the rate."""

    ingress_kbps: int = 0
    egress_kbps: int = 0
    ingress_burst_kbits: int = 0
    egress_burst_kbits: int = 0


@dataclass(frozen=True, slots=True)
class Port:
    """`active`: the guest runs on this host; an inactive binding is wired and answered nothing.

    `unguarded`: port security is off, neither addresses are checked nor security groups in force.
    """

    port_id: str
    mac_address: str
    device: str
    hostname: str
    addresses: tuple[IpAddress, ...]
    network: Network
    active: bool
    instance_id: str = ""
    unguarded: bool = False
    security_group_ids: tuple[str, ...] = ()
    allowed_pairs: tuple[AllowedPair, ...] = ()
    bandwidth: Bandwidth = Bandwidth()


def port_from_spec(spec: desired_pb2.PortSpec) -> Port:
    """Raises InvalidArgument, naming each bad field."""
    check = Checker()
    mac_address = check.mac_address("port.mac_address", spec.mac_address)
    port = Port(
        port_id=check.uuid("port.port_id", spec.port_id),
        mac_address=mac_address,
        device=check.device("port.device", spec.device, "tap"),
        hostname=check.hostname("port.hostname", spec.hostname),
        addresses=tuple(check.address("port.addresses", entry.ip_address) for entry in spec.addresses),
        network=checked_network(spec.network, check, "port.network"),
        active=spec.active,
        instance_id=check.uuid("port.instance_id", spec.instance_id) if spec.instance_id else "",
        unguarded=spec.unguarded,
        security_group_ids=tuple(check.uuid("port.security_group_ids", text) for text in spec.security_group_ids),
        allowed_pairs=tuple(_pair(pair, mac_address, check) for pair in spec.allowed_address_pairs),
        bandwidth=_bandwidth(spec.bandwidth, check),
    )
    check.finish()
    return port


def _pair(spec: desired_pb2.AddressPair, own_mac_address: str, check: Checker) -> AllowedPair:
    field = "port.allowed_address_pairs"
    mac_address = check.mac_address(f"{field}.mac_address", spec.mac_address) if spec.mac_address else own_mac_address
    return AllowedPair(check.network(f"{field}.ip_address", spec.ip_address), mac_address)


def _bandwidth(spec: desired_pb2.Bandwidth, check: Checker) -> Bandwidth:
    limits = {field.name: getattr(spec, field.name) for field in spec.DESCRIPTOR.fields}
    for name, value in limits.items():
        check.between(f"port.bandwidth.{name}", value, 0, 1 << 40)
    return Bandwidth(**limits)


def port_to_spec(port: Port) -> desired_pb2.PortSpec:
    """The inverse of `port_from_spec`, for the host's own records; the ids of addresses' subnets aren't kept."""
    bandwidth = port.bandwidth
    return desired_pb2.PortSpec(
        port_id=port.port_id,
        mac_address=port.mac_address,
        device=port.device,
        hostname=port.hostname,
        addresses=[desired_pb2.PortAddress(ip_address=str(address)) for address in port.addresses],
        active=port.active,
        network=network_to_spec(port.network),
        instance_id=port.instance_id,
        unguarded=port.unguarded,
        security_group_ids=port.security_group_ids,
        allowed_address_pairs=[
            desired_pb2.AddressPair(ip_address=str(pair.addresses), mac_address=pair.mac_address)
            for pair in port.allowed_pairs
        ],
        bandwidth=desired_pb2.Bandwidth(
            ingress_kbps=bandwidth.ingress_kbps,
            egress_kbps=bandwidth.egress_kbps,
            ingress_burst_kbits=bandwidth.ingress_burst_kbits,
            egress_burst_kbits=bandwidth.egress_burst_kbits,
        ),
    )
