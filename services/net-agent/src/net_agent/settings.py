"""The net-agent's settings, from the environment (prefix `CIRRA_`)."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, IPvAnyAddress, field_validator
from pydantic_settings import NoDecode

from core.agent.settings import AgentSettings


class NetAgentSettings(AgentSettings):
    driver: Literal["linux", "simulated"] = "linux"
    # One pass over the host carries out all that waits for it, so that many may wait.
    concurrency: int = Field(default=128, ge=1)
    # The provider's segments and the interfaces that lead to them: "physnet1:eth1,physnet2:eth2" in the environment.
    physical_networks: Annotated[Mapping[str, str], NoDecode] = Field(default_factory=dict)
    # Where this host takes in tunnels of others; by default the address by which it reaches the control plane, or, when
    # that is on this very machine, the one of its default route.
    tunnel_address: IPvAnyAddress | None = None
    # The namespace whose interfaces are this host's; another than the agent's own when hosts share a machine.
    host_namespace: Path = Path("/proc/self/ns/net")
    # Where named namespaces are bound; a folder of its own for each host when hosts share a machine.
    netns_directory: Path = Path("/run/netns")
    # How often leases and neighbours are looked at.
    observe_interval_s: float = Field(default=1.0, gt=0)
    # How often the whole host is compared with what it was told.
    heal_interval_s: float = Field(default=3.0, gt=0)
    # How often the conditions of the host are probed (net_agent.conditions).
    probe_interval_s: float = Field(default=60.0, gt=0)
    # What a diagnosis asks of the outside (ADR 29): addresses that answer echo, none unless told; and a name.
    diagnose_address: IPv4Address | None = None
    diagnose_address_ipv6: IPv6Address | None = None
    diagnose_name: str = "example.com"
    # Of the simulated driver: how long a plug takes, and a guest until it has its lease.
    simulated_latency_s: float = Field(default=0.0, ge=0)
    simulated_lease_delay_s: float = Field(default=1.0, ge=0)

    @field_validator("physical_networks", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return parse_physical_networks(value) if isinstance(value, str) else value

    @property
    def networks_directory(self) -> Path:
        return self.state_directory / "networks"


def parse_physical_networks(text: str) -> dict[str, str]:
    """`"physnet1:eth1, physnet2:eth2"` → a mapping. Raises ValueError for what isn't so, or names one twice."""
    networks: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        label, separator, interface = pair.partition(":")
        if not separator or not label or not interface:
            raise ValueError(f"{pair!r} is not label:interface")
        if label in networks or interface in networks.values():
            raise ValueError(f"{pair!r}: one label has one interface, and one interface one label")
        networks[label] = interface
    return networks
