"""What may not go while others use it: an image by its instances, a network by its ports.

A counter per used thing holds its users; a limit of 0 on it says that the thing is gone. Both are constraint rows of
events, so neither a user that comes while the thing goes nor the reverse can slip through: one of the two appends is
refused with `LimitExceeded` (`conductor.violations` tells which).
"""

from __future__ import annotations

from collections.abc import Iterator

from core.eventlog.types import Constraint, CounterAdd, CounterLimit

IMAGE_USERS = "image-users"  # key: image id; counts instances
NETWORK_PORTS = "ports-on-network"  # key: network id
SUBNET_PORTS = "ports-on-subnet"  # key: subnet id
SUBNET_ROUTERS = "routers-on-subnet"  # key: subnet id; counts interfaces
SUBNET_FLOATING_IPS = "floating-ips-of-subnet"  # key: subnet id
SUBNET_HOST_ADDRESSES = "host-addresses-of-subnet"  # key: subnet id; what host gateways have
NETWORK_GATEWAYS = "gateways-on-network"  # key: external network's id; counts routers
NETWORK_HOST_GATEWAYS = "host-gateways-on-network"  # key: external network's id
FLOATING_IPS_THROUGH = "floating-ips-through"  # key: router id / id of a subnet or external network
SECURITY_GROUP_PORTS = "ports-in-security-group"  # key: security group id
SECURITY_GROUP_RULES = "rules-naming-security-group"  # key: security group id; counts rules of other groups
USER_KEY_PAIRS = "key-pairs-of-user"  # key: user id

_GONE = 0


def used(scope: str, key: str) -> CounterAdd:
    """One user more. Refused once the thing is gone."""
    return CounterAdd(scope, key, 1)


def given_up(scope: str, key: str) -> CounterAdd:
    """One user less."""
    return CounterAdd(scope, key, -1)


def opened(scope: str, key: str) -> CounterLimit:
    """The thing is there, perhaps once more: it may have any number of users."""
    return CounterLimit(scope, key, None)


def gone(scope: str, key: str) -> Iterator[Constraint]:
    """The thing goes for good; refused while it has users.

    With room for one, one fits only if there is none: that is how the log's counters can be asked for zero.
    """
    yield CounterLimit(scope, key, 1)
    yield CounterAdd(scope, key, 1)
    yield CounterAdd(scope, key, -1)
    yield CounterLimit(scope, key, _GONE)
