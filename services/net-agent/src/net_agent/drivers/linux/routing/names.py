"""What the parts of routers are called on a host, so that an operator finds them and two never share a name. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from uuid import UUID

from core.ids import device_suffix

ROUTER_PREFIX, EXTERNAL_PREFIX = "qrouter-", "qext-"
# Who an interface on the host belongs to, in its alias.
ROUTER_ROLE, EXTERNAL_ROLE = "router", "external"

# In a router's namespace: the end of its way out. In an external one: the leg on the external bridge.
GATEWAY_DEVICE, EXTERNAL_DEVICE = "qg", "ext"
INTERFACE_PREFIX, LINK_PREFIX = "qr-", "rt-"

# Link-local (RFC 3927, 2.1 reserves the first and the last 256), and clear of 169.254.169.254.
_LINKS_FROM, _LINKS_TO = IPv4Address("169.254.1.0"), IPv4Address("169.254.128.0")
MAX_LINKS = (int(_LINKS_TO) - int(_LINKS_FROM)) // 2


def router_namespace(router_id: str) -> str:
    return f"{ROUTER_PREFIX}{UUID(router_id)}"


def external_namespace(network_id: str) -> str:
    return f"{EXTERNAL_PREFIX}{UUID(network_id)}"


def inner_device(subnet_id: str) -> str:
    """In the router's namespace."""
    return f"{INTERFACE_PREFIX}{device_suffix(subnet_id)}"


def outer_device(router_id: str, subnet_id: str) -> str:
    """On the bridge; a subnet may be of several routers."""
    return f"rp-{hashlib.sha256(f'{router_id}/{subnet_id}'.encode()).hexdigest()[:11]}"


def link_device(router_id: str) -> str:
    """In the external namespace: the end of the router's way out."""
    return f"{LINK_PREFIX}{device_suffix(router_id)}"


def external_leg(network_id: str) -> str:
    """On the external network's bridge."""
    return f"xp-{device_suffix(network_id)}"


@dataclass(frozen=True, slots=True)
class LinkAddresses:
    """Of the pair between a router and an external namespace. `number`: unique on a host, below MAX_LINKS.

    IPv4 is what a router translates to, so that the external namespace tells two tenants with the same addresses apart.
    IPv6 addresses are link-local and the same on each pair.
    """

    number: int

    @property
    def outer(self) -> IPv4Interface:
        """The external namespace's."""
        return IPv4Interface((int(_LINKS_FROM) + 2 * self.number, 31))

    @property
    def inner(self) -> IPv4Interface:
        """The router's."""
        return IPv4Interface((int(_LINKS_FROM) + 2 * self.number + 1, 31))


OUTER_LINK_LOCAL = IPv6Interface("fe80::1/64")
INNER_LINK_LOCAL = IPv6Interface("fe80::2/64")
