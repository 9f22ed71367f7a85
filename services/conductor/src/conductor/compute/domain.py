"""The desired state of an instance's domain, made of the aggregates: pure."""

from __future__ import annotations

from collections.abc import Sequence

from cirra.agent.v1 import desired_pb2 as agent
from conductor.compute.instance import Instance
from conductor.image.image import Image
from conductor.network.network import Network
from conductor.network.port import Port
from conductor.network.port_terms import describe
from core.ids import tap_device


def domain_spec(
    instance: Instance, image: Image, ports: Sequence[tuple[Port, Network]], power: agent.DesiredPower.ValueType
) -> agent.DomainSpec:
    """What the guest is made of. The ports are in the order of its NICs."""
    return agent.DomainSpec(
        instance_id=str(instance.id),
        display_name=instance.display_name,
        hostname=instance.hostname,
        project_id=instance.project_id,
        vcpus=instance.flavor.vcpus,
        memory_mib=instance.flavor.memory_mib,
        disk_gib=instance.flavor.disk_gib,
        virt_type=instance.virt_type,
        image=agent.ImageRef(
            image_id=str(image.id),
            sha256=image.sha256,
            disk_format=image.disk_format_name,
            size_bytes=image.size_bytes,
            virtual_size_bytes=image.virtual_size_bytes,
        ),
        nics=[nic_spec(port, network) for port, network in ports],
        power=power,
    )


def nic_spec(port: Port, network: Network) -> agent.NicSpec:
    return agent.NicSpec(
        port_id=str(port.id), mac_address=port.mac_address, device=tap_device(port.id), mtu=network.mtu
    )


def domain_wish(host: str, spec: agent.DomainSpec, *, create: bool) -> agent.DesiredObject:
    return agent.DesiredObject(
        host=host, agent="compute", kind="domain", object_id=spec.instance_id, create=create, domain=spec
    )


def domain_absent(host: str, instance_id: str) -> agent.DesiredObject:
    return agent.DesiredObject(host=host, agent="compute", kind="domain", object_id=instance_id, absent=True)


def port_wish(host: str, port: Port, network: Network, hostname: str, instance_id: str) -> agent.DesiredObject:
    """The port wired and answering on the host where its guest runs."""
    wish = agent.DesiredObject(
        host=host,
        agent="net",
        kind="port",
        object_id=str(port.id),
        port=agent.PortSpec(
            port_id=str(port.id),
            mac_address=port.mac_address,
            device=tap_device(port.id),
            hostname=hostname,
            network=network.spec(),
            instance_id=instance_id,
            active=True,
        ),
    )
    describe(wish.port, port.terms)
    return wish
