"""The servers that the services stand on: our own embedded ones, or those that the settings name."""

from __future__ import annotations

from dataclasses import dataclass

from core.embedded.nats import EmbeddedNats
from core.embedded.postgres import EmbeddedPostgres
from core.pki.tls import TlsFiles
from deployment import secrets
from deployment.config import Config
from deployment.layout import Layout
from deployment.libvirtd import PrivateLibvirtd


@dataclass(frozen=True, slots=True)
class Servers:
    """Where they are."""

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
        libvirtd=None if external.libvirt_uri else PrivateLibvirtd(layout.libvirt, config.host_uuid),
    )


def servers(layout: Layout, config: Config) -> Servers:
    """Raises FileNotFoundError before their first start."""
    own, external = own_servers(layout, config), config.external
    return Servers(
        postgres_dsn=own.postgres.dsn if own.postgres else external.postgres_dsn,
        nats_urls=(own.nats.url,) if own.nats else external.nats_urls,
        libvirt_uri=own.libvirtd.uri if own.libvirtd else external.libvirt_uri,
    )


def _nats(layout: Layout, config: Config) -> EmbeddedNats:
    tls = TlsFiles.in_folder(layout.tls(secrets.NATS_SERVER))
    return EmbeddedNats(layout.nats, keys=secrets.nats_keys(layout, config), tls=tls, detached=True)
