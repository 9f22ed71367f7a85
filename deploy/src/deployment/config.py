"""What a deployment decides at its first start and keeps: its cell, this host's name, how many of each, which ports."""

from __future__ import annotations

import dataclasses
import json
import random
import re
import socket
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from uuid import UUID, uuid4

from core.embedded.server import LOOPBACK, port_is_free
from core.errors import CirraError
from core.pki.files import write_private
from deployment.layout import Layout
from deployment.settings import DeploySettings
from deployment.testbed import plan

# Below the ports that the kernel gives to clients (ip(7), ip_local_port_range), so that none sits on ours at a restart.
_PORTS = range(20_000, 32_000)
_PORT_ATTEMPTS = 200


class AnotherShape(CirraError):
    """This deployment was made with its hosts elsewhere."""

    reason = "ANOTHER_SHAPE"


class NotDeployed(CirraError):
    """There is no deployment in this folder."""

    reason = "NOT_DEPLOYED"


@dataclass(frozen=True, slots=True)
class External:
    """Servers that are not ours: used, never started or stopped."""

    postgres_dsn: str = ""
    nats_urls: tuple[str, ...] = ()
    nats_keys_directory: str = ""
    libvirt_uri: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """`address`: services listen there. `replicas` of each service of the control plane; `ports` by listener's name.

    `hosts`: 1: this machine, called `host`, is the host; more: it holds so many (`deployment.testbed`).
    """

    cell: str
    host: str
    host_uuid: UUID
    address: str = LOOPBACK
    replicas: int = 1
    ports: dict[str, int] = field(default_factory=dict)
    external: External = field(default_factory=External)
    hosts: int = 1

    @property
    def has_testbed(self) -> bool:
        return self.hosts > 1

    @classmethod
    def load(cls, layout: Layout) -> Config:
        """Raises NotDeployed."""
        try:
            content = json.loads(layout.record.read_text())
        except FileNotFoundError as error:
            raise NotDeployed(f"no deployment in {layout.root}", remedy="start one: make up") from error
        external = content.pop("external")
        return cls(
            **content
            | {
                "host_uuid": UUID(content["host_uuid"]),
                "external": External(**external | {"nats_urls": tuple(external["nats_urls"])}),
            }
        )

    def save(self, layout: Layout) -> None:
        content = dataclasses.asdict(self) | {"host_uuid": str(self.host_uuid)}
        # It may hold the password of a Postgres that is not ours.
        write_private(layout.record, (json.dumps(content, indent=1) + "\n").encode())


def configure(
    layout: Layout, settings: DeploySettings, *, cell: str | None, replicas: int | None, hosts: int | None = None
) -> Config:
    """The deployment's configuration with what is asked for now; saved. Raises CirraError for another cell, or hosts
    that would have to be given up."""
    try:
        config = _with_hosts(layout, Config.load(layout), hosts)
    except NotDeployed:
        name = host_name(socket.gethostname())
        config = Config(cell=cell or "main", host=name, host_uuid=uuid4(), hosts=hosts or 1)
    if cell not in (None, config.cell):
        raise CirraError(
            f"{layout.root} holds cell {config.cell}, not {cell}",
            reason="ANOTHER_CELL",
            remedy="choose another --state-dir, or remove this one: make down ARGS=--purge",
        )
    if settings.nats_urls and settings.nats_keys_directory is None and not config.external.nats_keys_directory:
        raise CirraError(
            "a NATS of your own must trust our operator",
            reason="NATS_KEYS_MISSING",
            remedy="set CIRRA_NATS_KEYS_DIRECTORY to the folder of its keys",
        )
    if config.has_testbed and (settings.libvirt_uri or config.external.libvirt_uri):
        raise CirraError(
            "each of several hosts has a libvirtd of its own",
            reason="ONE_LIBVIRTD",
            remedy="leave CIRRA_LIBVIRT_URI out, or HOSTS",
        )
    keys = settings.nats_keys_directory
    known = config.external
    config = dataclasses.replace(
        config,
        address=_address(config, settings),
        replicas=replicas or config.replicas,
        external=External(
            postgres_dsn=settings.postgres_dsn or known.postgres_dsn,
            nats_urls=settings.nats_urls or known.nats_urls,
            nats_keys_directory=known.nats_keys_directory if keys is None else str(keys.absolute()),
            libvirt_uri=settings.libvirt_uri or known.libvirt_uri,
        ),
    )
    config.save(layout)
    return config


def _with_hosts(layout: Layout, config: Config, hosts: int | None) -> Config:
    if hosts in (None, config.hosts):
        return config
    if config.has_testbed and hosts > config.hosts:
        return dataclasses.replace(config, hosts=hosts)
    raise AnotherShape(
        f"{layout.root} was made with HOSTS={config.hosts}; the cloud knows its hosts",
        remedy="choose another --state-dir, or remove this one: make down ARGS=--purge",
    )


def _address(config: Config, settings: DeploySettings) -> str:
    """Hosts of a testbed reach this machine's addresses by its own one on the underlay, but no loopback."""
    address = str(settings.address or config.address)
    if config.has_testbed and IPv4Address(address).is_loopback:
        return str(plan.CONTROL.ip)
    return address


def with_ports(config: Config, names: list[str]) -> Config:
    """A free port for each of *names*; one that it had is kept unless somebody else has taken it meanwhile."""
    ports: dict[str, int] = {}
    for name in names:
        port = config.ports.get(name)
        ports[name] = (
            port
            if port is not None and port_is_free(config.address, port)
            else _choose(config.address, set(ports.values()))
        )
    return dataclasses.replace(config, ports=ports)


def reserve_port(server_folder: Path, address: str = LOOPBACK) -> None:
    """An embedded server keeps its port in its folder: give it one of ours at its first start."""
    recorded = server_folder / "port"
    if not recorded.exists():
        server_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        recorded.write_text(str(_choose(address, set())))


def host_name(hostname: str) -> str:
    """The machine's name as a name of a host: one DNS label in lower case."""
    label = re.sub(r"[^a-z0-9-]", "-", hostname.partition(".")[0].lower()).strip("-")
    return label[:63] or "host"


def _choose(address: str, taken: set[int]) -> int:
    for _ in range(_PORT_ATTEMPTS):
        port = random.choice(_PORTS)
        if port not in taken and port_is_free(address, port):
            return port
    raise CirraError(f"no free port between {_PORTS.start} and {_PORTS.stop} on {address}", reason="NO_FREE_PORT")
