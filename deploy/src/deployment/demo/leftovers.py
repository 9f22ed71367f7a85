"""After a delete: is anything of the instance left on this host?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cirra.compute.v1.compute_pb2 import Instance
from core.ids import bridge_device, dhcp_namespace, last_segment, tap_device
from deployment.config import Config
from deployment.layout import Layout
from deployment.servers import servers

_INTERFACES = Path("/sys/class/net")
_NAMESPACES = Path("/run/netns")


def left_on_host(layout: Layout, config: Config, instance: Instance) -> list[str]:
    """Names of what should be gone: domain, files, taps; of networks without another instance here, all."""
    found = [*_domains(layout, config, instance), *_files(layout, instance), *_links(instance)]
    return [str(each) for each in found]


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


def _files(layout: Layout, instance: Instance) -> Iterator[Path]:
    folder = layout.agent_state / "instances" / instance.uid
    if folder.exists():
        yield folder


def _links(instance: Instance) -> Iterator[Path]:
    for nic in instance.nics:
        port, network = last_segment(nic.port), last_segment(nic.network)
        expected_gone = (
            _INTERFACES / tap_device(port),
            _INTERFACES / bridge_device(network),
            _NAMESPACES / dhcp_namespace(network),
        )
        yield from (path for path in expected_gone if path.exists())
