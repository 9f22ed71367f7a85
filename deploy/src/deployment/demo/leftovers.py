"""After a delete: is anything of the instance left on its host?"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from cirra.compute.v1.compute_pb2 import Instance
from core.ids import bridge_device, dhcp_namespace, last_segment, tap_device
from deployment.demo.place import Place


def left_on_host(place: Place, instance: Instance, routers: Collection[str] = ()) -> list[str]:
    """What should be gone and is not: domain, files, taps; bridge and namespace of networks that were its alone.

    routers: ids of those that were its alone, too.
    """
    return [*_domains(place, instance), *_files(place, instance), *_links(place, instance, routers)]


def _domains(place: Place, instance: Instance) -> Iterator[str]:
    """By libvirt itself: defined or running."""
    import libvirt

    connection = libvirt.open(place.libvirt_uri)
    try:
        for domain in connection.listAllDomains():
            if domain.UUIDString() == instance.uid or instance.uid in domain.name():
                yield f"domain {domain.name()}"
    finally:
        connection.close()


def _files(place: Place, instance: Instance) -> Iterator[str]:
    folder = place.layout.agent_state / "instances" / instance.uid
    if folder.exists():
        yield str(folder)


def _links(place: Place, instance: Instance, routers: Collection[str]) -> Iterator[str]:
    # Of a veth, ip(8) names the other end as well.
    interfaces = {name.partition("@")[0] for name in place.names("ip", "-brief", "link")}
    namespaces = place.names("ip", "netns")
    for nic in instance.nics:
        network = last_segment(nic.network)
        for device in (tap_device(last_segment(nic.port)), bridge_device(network)):
            if device in interfaces:
                yield f"interface {device}"
        if dhcp_namespace(network) in namespaces:
            yield f"namespace {dhcp_namespace(network)}"

    for router in routers:
        if (name := f"qrouter-{router}") in namespaces:
            yield f"namespace {name}"
