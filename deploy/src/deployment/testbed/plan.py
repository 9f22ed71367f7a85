"""What a testbed consists of: names, addresses, cables. Pure.

    control plane ──┐                                                  ┌── eth0 of "outside", the Internet
                    ├── underlay ── eth0 of each host eth1 ── provider ┤
                    │                                                  └── eth0, dhcp0 of "office", a LAN there
                    └ in the caller's namespace; both segments are bridges in the namespace "switch"

The underlay is of 198.18.0.0/15, which is for tests (RFC 2544); the rest is documentation's (RFC 5737, RFC 3849).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

MOST_HOSTS = 50
# Of a real cable: what tunnels add has to be taken off inside them.
MTU = 1500

# Of the machine itself on the underlay: there the hosts reach the control plane.
CONTROL = IPv4Interface("198.19.0.1/24")

# The provider's segment: the hosts' second interface leads there, under this name and with no address of its own.
PHYSICAL_NETWORK = "physnet1"
UNDERLAY_DEVICE, PROVIDER_DEVICE = "eth0", "eth1"
OUTSIDE = (IPv4Interface("203.0.113.1/24"), IPv6Interface("2001:db8:113::1/64"))
OFFICE = (IPv4Interface("203.0.113.200/24"), IPv6Interface("2001:db8:113::200/64"))
# A second interface of the office, without an address: of a machine that asks for one.
OFFICE_DHCP_DEVICE = "dhcp0"

# The Internet is one machine behind the provider's router, by these names.
DNS = (IPv4Interface("198.51.100.53/32"), IPv6Interface("2001:db8:100::53/128"))
WEB = (IPv4Interface("198.51.100.80/32"), IPv6Interface("2001:db8:100::80/128"))
WEB_NAMES = ("www.example.com", "example.com")
ROUTER_NAME = "router.example.net"

UNDERLAY, PROVIDER = "underlay", "provider"
OUTSIDE_NAME, OFFICE_NAME = "outside", "office"


@dataclass(frozen=True, slots=True)
class HostPlan:
    """`number` counts from 1. `namespace`: its network, as ip-netns(8) names it."""

    number: int
    namespace: str

    @property
    def name(self) -> str:
        return f"host-{self.number}"

    @property
    def address(self) -> IPv4Interface:
        """On the underlay."""
        return IPv4Interface((int(CONTROL.network.network_address) + 10 + self.number, CONTROL.network.prefixlen))

    @property
    def underlay_port(self) -> str:
        """The other end of its cable, on the switch."""
        return f"u-{self.name}"

    @property
    def provider_port(self) -> str:
        return f"p-{self.name}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Of the testbed of one deployment. `tag` keeps its names apart from those of others on this machine.

    `control_plane`: the address that services listen on.
    """

    tag: str
    count: int
    control_plane: str

    @classmethod
    def of(cls, root: Path, count: int, control_plane: str) -> Plan:
        return cls(hashlib.sha256(str(root).encode()).hexdigest()[:6], count, control_plane)

    @property
    def hosts(self) -> tuple[HostPlan, ...]:
        return tuple(HostPlan(number, self.namespace(f"host-{number}")) for number in range(1, self.count + 1))

    def namespace(self, name: str) -> str:
        return f"cirra-{self.tag}-{name}"

    @property
    def switch(self) -> str:
        return self.namespace("switch")

    @property
    def outside(self) -> str:
        return self.namespace(OUTSIDE_NAME)

    @property
    def office(self) -> str:
        return self.namespace(OFFICE_NAME)

    @property
    def control_device(self) -> str:
        """The machine's own interface on the underlay."""
        return f"cirra{self.tag}"

    def hosts_file(self) -> str:
        """hosts(5), the same on each host: libvirt's remote connections ask for names."""
        lines = ["127.0.0.1 localhost", "::1 localhost", f"{CONTROL.ip} control"]
        return "\n".join([*lines, *(f"{host.address.ip} {host.name}" for host in self.hosts)]) + "\n"
