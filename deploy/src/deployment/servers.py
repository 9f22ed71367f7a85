"""The servers that the services stand on: our own embedded ones, or those that the settings name."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from core.embedded.nats import EmbeddedNats
from core.embedded.postgres import EmbeddedPostgres
from core.pki.tls import TlsFiles
from deployment import secrets
from deployment.config import Config
from deployment.layout import Layout
from deployment.libvirtd import PrivateLibvirtd

_OWN_NAMESPACE = Path("/proc/self/ns/net")
_INTERFACES = Path("/sys/class/net")


@dataclass(frozen=True, slots=True)
class Servers:
    """Where they are. `libvirt_uri`: this host's; "" when hosts have their own (`deployment.testbed`)."""

    postgres_dsn: str
    nats_urls: tuple[str, ...]
    libvirt_uri: str


@dataclass(frozen=True, slots=True)
class OwnServers:
    """None: not ours, or not ours to start. Nothing is started by making one."""

    postgres: EmbeddedPostgres | None
    nats: EmbeddedNats | None
    libvirtd: PrivateLibvirtd | None


def own_servers(layout: Layout, config: Config) -> OwnServers:
    external = config.external
    return OwnServers(
        postgres=None if external.postgres_dsn else EmbeddedPostgres(layout.postgres, detached=True),
        nats=None if external.nats_urls else _nats(layout, config),
        libvirtd=None if external.libvirt_uri or config.has_testbed else _libvirtd(layout, config),
    )


def servers(layout: Layout, config: Config) -> Servers:
    """Raises FileNotFoundError before their first start."""
    own, external = own_servers(layout, config), config.external
    return Servers(
        postgres_dsn=own.postgres.dsn if own.postgres else external.postgres_dsn,
        nats_urls=(own.nats.url,) if own.nats else external.nats_urls,
        libvirt_uri=own.libvirtd.uri if own.libvirtd else external.libvirt_uri,
    )


def _libvirtd(layout: Layout, config: Config) -> PrivateLibvirtd:
    # In another network namespace than the machine's, as tests run us, libvirtd needs a sysfs that shows it.
    namespace = None if _sysfs_is_of_our_network() else _OWN_NAMESPACE
    return PrivateLibvirtd(layout.libvirt, config.host_uuid, network_namespace=namespace)


def _sysfs_is_of_our_network() -> bool:
    """A sysfs shows the interfaces of the namespace that it was mounted in (network_namespaces(7))."""
    return {name for _, name in socket.if_nameindex()} <= {path.name for path in _INTERFACES.iterdir()}


def _nats(layout: Layout, config: Config) -> EmbeddedNats:
    tls = TlsFiles.in_folder(layout.tls(secrets.NATS_SERVER))
    # Further hosts reach it where they reach the services; it takes nobody without a certificate and a signed token.
    return EmbeddedNats(
        layout.nats, keys=secrets.nats_keys(layout, config), tls=tls, detached=True, address=config.address
    )
