"""After a delete: is anything of the instance left on this host?"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

from cirra.compute.v1.compute_pb2 import Instance
from core.ids import bridge_device, dhcp_namespace, last_segment, tap_device
from deployment.config import Config
from deployment.layout import Layout
from deployment.servers import servers

_NAMESPACES = Path("/run/netns")


def left_on_host(layout: Layout, config: Config, instance: Instance) -> list[str]:
    """What should be gone and is not: domain, files, taps; bridge and namespace of networks that were its alone."""
    return [*_domains(layout, config, instance), *_files(layout, instance), *_links(instance)]


def _domains(layout: Layout, config: Config, instance: Instance) -> Iterator[str]:
    """By libvirt itself: defined or running."""
    import libvirt

    connection = libvirt.open(servers(layout, config).libvirt_uri)
    try:
        for domain in connection.listAllDomains():
            if domain.UUIDString() == instance.uid or instance.uid in domain.name():
                yield f"domain {domain.name()}"
    finally:
        connection.close()


def _files(layout: Layout, instance: Instance) -> Iterator[str]:
    folder = layout.agent_state / "instances" / instance.uid
    if folder.exists():
        yield str(folder)


def _links(instance: Instance) -> Iterator[str]:
    interfaces = {name for _, name in socket.if_nameindex()}
    for nic in instance.nics:
        network = last_segment(nic.network)
        for device in (tap_device(last_segment(nic.port)), bridge_device(network)):
            if device in interfaces:
                yield f"interface {device}"
        if (_NAMESPACES / dhcp_namespace(network)).exists():
            yield f"namespace {dhcp_namespace(network)}"
