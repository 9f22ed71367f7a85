"""The table of services: for each process its command and its environment. Pure; ports and secrets exist before."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deployment import secrets
from deployment.config import Config
from deployment.layout import Layout
from deployment.process import READY_FILE_VARIABLE, Program
from deployment.servers import Servers

# In the order of their start; all of one stage start at once.
CONTROL_PLANE = ("conductor", "placement", "api-gateway", "metadata")
PROJECTING = ("conductor", "api-gateway", "metadata")
AGENTS = ("compute-agent", "net-agent", "block-agent")

_HTTP = "http"
_TENANT_TYPE = "CIRRA_TENANT_NETWORK_TYPE"


@dataclass(frozen=True, slots=True)
class Addresses:
    """host:port of everything that is called; of several replicas, all."""

    conductor: tuple[str, ...]
    placement: tuple[str, ...]
    gateway: tuple[str, ...]
    # HTTPS: images for the agents, metadata for the hosts' proxies.
    images: tuple[str, ...]
    metadata: tuple[str, ...]

    @property
    def image_download_url(self) -> str:
        return f"https://{self.images[0]}/images"

    @property
    def metadata_url(self) -> str:
        """One URL for each replica, separated by commas: the hosts' proxies know them all."""
        return ",".join(f"https://{address}" for address in self.metadata)


def port_names(replicas: int) -> list[str]:
    """The names in `Config.ports` of all that services listen on."""
    names = []
    for number in range(1, replicas + 1):
        names += [f"{service}-{number}" for service in CONTROL_PLANE]
        names.append(f"api-gateway-{number}-{_HTTP}")
    return names


def addresses(config: Config) -> Addresses:
    def of(service: str, suffix: str = "") -> tuple[str, ...]:
        names = (f"{service}-{number}{suffix}" for number in range(1, config.replicas + 1))
        return tuple(f"{config.address}:{config.ports[name]}" for name in names)

    return Addresses(
        conductor=of("conductor"),
        placement=of("placement"),
        gateway=of("api-gateway"),
        images=of("api-gateway", f"-{_HTTP}"),
        metadata=of("metadata"),
    )


class ServiceTable:
    """Makes the programs of a deployment; *inherited* is what they get of the caller's environment."""

    def __init__(self, layout: Layout, config: Config, servers: Servers, inherited: Mapping[str, str]) -> None:
        self._layout = layout
        self._config = config
        self._servers = servers
        self._inherited = inherited
        self.addresses = addresses(config)

    def control_plane(self) -> list[Program]:
        return [
            self._replica(service, number)
            for service in CONTROL_PLANE
            for number in range(1, self._config.replicas + 1)
        ]

    def agents(self) -> list[Program]:
        """They find the cloud by the host's identity, and need no credentials but that."""
        return agent_programs(
            self._layout, self._config.cell, self._config.host, self._servers.libvirt_uri, self._inherited
        )

    def rebuilders(self) -> list[Program]:
        """For each service that projects, a process beside its replicas that asks for a rebuild and shows it."""
        return [self._rebuilder(service) for service in PROJECTING]

    def epoch_raiser(self, above: int) -> Program:
        """A process that begins a new epoch of the log, higher than *above* too."""
        name = "conductor-new-epoch"
        environment = self._common("conductor", name) | self._specific("conductor", 1) | {"CIRRA_LOG_LEVEL": "error"}
        program = self._program("conductor", name, environment)
        return dataclasses.replace(program, argv=(*program.argv, "--begin-epoch", str(above)))

    def _rebuilder(self, service: str) -> Program:
        name = f"{service}-rebuild"
        environment = self._common(service, name) | self._specific(service, 1) | {"CIRRA_LOG_LEVEL": "error"}
        program = self._program(service, name, environment)
        return dataclasses.replace(program, argv=(*program.argv, "--rebuild"))

    def _replica(self, service: str, number: int) -> Program:
        name = f"{service}-{number}"
        listen = f"{self._config.address}:{self._config.ports[name]}"
        environment = self._common(service, name) | self._specific(service, number)
        # Metadata speaks HTTP only.
        environment["CIRRA_HTTP_LISTEN" if service == "metadata" else "CIRRA_LISTEN"] = listen
        return self._program(service, name, environment)

    def _common(self, service: str, replica: str) -> dict[str, str]:
        return {
            "CIRRA_CELL": self._config.cell,
            "CIRRA_REPLICA": replica,
            "CIRRA_POSTGRES_DSN": self._servers.postgres_dsn,
            "CIRRA_NATS_URLS": ",".join(self._servers.nats_urls),
            "CIRRA_NATS_CREDENTIALS": str(self._layout.nats_credentials(service)),
            "CIRRA_TLS_DIRECTORY": str(self._layout.tls(service)),
            "CIRRA_MASTER_KEY_FILE": str(secrets.secret_key(self._layout, "master")),
        }

    def _specific(self, service: str, number: int) -> dict[str, str]:
        ticket_key = {"CIRRA_TICKET_KEY_FILE": str(secrets.secret_key(self._layout, "ticket"))}
        metadata_key = {"CIRRA_METADATA_KEY_FILE": str(secrets.secret_key(self._layout, "metadata"))}
        if service == "conductor":
            return ticket_key | metadata_key | self._conductor()
        if service == "api-gateway":
            return ticket_key | {
                "CIRRA_CONDUCTOR_ADDRESSES": ",".join(self.addresses.conductor),
                "CIRRA_PLACEMENT_ADDRESSES": ",".join(self.addresses.placement),
                "CIRRA_TOKEN_KEY_FILE": str(secrets.token_key(self._layout)),
                "CIRRA_BLOB_DIRECTORY": str(self._layout.blobs),
                "CIRRA_HTTP_LISTEN": self.addresses.images[number - 1],
            }
        if service == "metadata":
            return metadata_key | {"CIRRA_CONDUCTOR_ADDRESSES": ",".join(self.addresses.conductor)}
        return {}

    def _conductor(self) -> dict[str, str]:
        return self._networks() | {
            "CIRRA_PLACEMENT_ADDRESSES": ",".join(self.addresses.placement),
            "CIRRA_CA_DIRECTORY": str(self._layout.authority),
            "CIRRA_NATS_KEYS_DIRECTORY": str(self._layout.host_signer),
            "CIRRA_IMAGE_DOWNLOAD_URL": self.addresses.image_download_url,
            "CIRRA_METADATA_URL": self.addresses.metadata_url,
            "CIRRA_ADVERTISED_CONDUCTOR_ADDRESSES": ",".join(self.addresses.conductor),
            "CIRRA_ADVERTISED_NATS_URLS": ",".join(self._servers.nats_urls),
            "CIRRA_ADMIN_PASSWORD_FILE": str(secrets.admin_password(self._layout)),
        }

    def _networks(self) -> dict[str, str]:
        """Networks of several hosts go between them, unless the caller wants others: flat ones end at their host."""
        if not self._config.has_testbed or _TENANT_TYPE in self._inherited:
            return {}
        return {_TENANT_TYPE: "vxlan"}

    def _program(self, service: str, name: str, environment: Mapping[str, str]) -> Program:
        return _program(self._layout, service, name, {**self._inherited, **environment})


def agent_programs(
    layout: Layout, cell: str, host: str, libvirt_uri: str, inherited: Mapping[str, str]
) -> list[Program]:
    """The agents of *host*, whose identity and things are in *layout*. What is inherited for one agent alone, such as
    `CIRRA_NET_AGENT_DRIVER`, is that agent's `CIRRA_DRIVER`."""
    common = {
        **inherited,
        "CIRRA_HOST_DIRECTORY": str(layout.host),
        "CIRRA_STATE_DIRECTORY": str(layout.agent_state),
        "CIRRA_CELL": cell,
        "CIRRA_REPLICA": host,
    }
    specific = {"compute-agent": {"CIRRA_LIBVIRT_URI": libvirt_uri}}
    return [
        _program(layout, agent, agent, common | _own(agent, inherited) | specific.get(agent, {})) for agent in AGENTS
    ]


def _own(agent: str, inherited: Mapping[str, str]) -> dict[str, str]:
    prefix = f"CIRRA_{agent.replace('-', '_').upper()}_"
    return {f"CIRRA_{name.removeprefix(prefix)}": it for name, it in inherited.items() if name.startswith(prefix)}


def _program(layout: Layout, service: str, name: str, environment: Mapping[str, str]) -> Program:
    ready_file = layout.ready_file(name)
    return Program(
        name=name,
        argv=(str(command(service)),),
        environment={
            **environment,
            # Whoever forks to start a program (qemu-img, dnsmasq, …) runs gRPC's own handlers of a fork, and they
            # abort the child now and then while calls are under way. gRPC reads this when it is loaded.
            "GRPC_ENABLE_FORK_SUPPORT": "0",
            "CIRRA_TRACE_FILE": str(layout.trace(name)),
            READY_FILE_VARIABLE: str(ready_file),
        },
        ready_file=ready_file,
        pid_file=layout.pid_file(name),
        log=layout.log(name),
    )


def command(service: str) -> Path:
    """The command of a service, in the environment that runs us."""
    return Path(sys.executable).parent / f"cirra-{service}"


def command_names() -> list[str]:
    return [command(service).name for service in (*CONTROL_PLANE, *AGENTS)]
