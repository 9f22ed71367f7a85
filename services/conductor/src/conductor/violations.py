"""Refusals by constraint rows, in the words of who asked: which field, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from conductor import references
from core.errors import AlreadyExists, CirraError, FailedPrecondition, NotFound, ResourceExhausted
from core.eventlog.errors import LimitExceeded, UniqueViolation

_QUOTA = "quota/"

# scope → field, kind of resource
_NAMES = {
    "project-name": ("project.display_name", "project"),
    "user-name": ("user.display_name", "user"),
    "flavor-name": ("flavor.display_name", "flavor"),
    "key-pair-name": ("key_pair.display_name", "key pair"),
}

# scope → thing, its users
_REFERENCES = {
    references.IMAGE_USERS: ("image", "instances"),
    references.NETWORK_PORTS: ("network", "ports"),
    references.NETWORK_GATEWAYS: ("network", "routers with their gateway there"),
    references.NETWORK_HOST_GATEWAYS: ("network", "gateways of hosts"),
    references.SUBNET_PORTS: ("subnet", "ports"),
    references.SUBNET_ROUTERS: ("subnet", "router interfaces"),
    references.SUBNET_FLOATING_IPS: ("subnet", "floating IPs"),
    references.SUBNET_HOST_ADDRESSES: ("subnet", "addresses of hosts"),
    references.USER_KEY_PAIRS: ("user", "key pairs"),
    references.SECURITY_GROUP_PORTS: ("security group", "ports"),
    references.SECURITY_GROUP_RULES: ("security group", "rules of other groups"),
}

# scope of users that aren't deleted → what to do
_REMEDIES = {
    references.NETWORK_GATEWAYS: "clear those routers' gateways first",
    references.NETWORK_HOST_GATEWAYS: "try again in a moment: they go when no router leads there any more",
    references.SUBNET_ROUTERS: "remove it from its routers first",
    references.SUBNET_HOST_ADDRESSES: "try again in a moment: they go when no router leads there any more",
}


def explained(error: CirraError) -> CirraError:
    """The error that the caller is told: another one for a refused constraint row, else the error itself."""
    if isinstance(error, UniqueViolation):
        return _taken(error)
    if isinstance(error, LimitExceeded):
        return _exceeded(error)
    return error


def _taken(error: UniqueViolation) -> CirraError:
    if error.scope in _NAMES:
        field, kind = _NAMES[error.scope]
        name = error.key.partition("/")[2] if error.scope == "key-pair-name" else error.key
        return AlreadyExists(
            f"{field}: a {kind} named {name!r} exists already; choose another name",
            reason="NAME_TAKEN",
            remedy="choose another name",
            metadata={"field": field, "owner": error.owner},
        )
    explain = _TAKEN.get(error.scope.partition("/")[0])
    return error if explain is None else explain(error)


def _address_taken(error: UniqueViolation) -> CirraError:
    return AlreadyExists(
        f"port.fixed_ips: {error.key} is in use; choose another address, or none to get a free one",
        reason="ADDRESS_IN_USE",
        remedy="choose another address, or none to get a free one",
        metadata={"field": "port.fixed_ips", "owner": error.owner},
    )


def _mac_taken(error: UniqueViolation) -> CirraError:
    return AlreadyExists(
        f"port.mac_address: {error.key} is in use on this network; choose another, or none",
        reason="MAC_ADDRESS_IN_USE",
        remedy="choose another MAC address, or none to get a free one",
        metadata={"field": "port.mac_address", "owner": error.owner},
    )


def _segment_taken(error: UniqueViolation) -> CirraError:
    return AlreadyExists(
        f"network.physical_network: a flat network is on {error.key!r} already",
        reason="PHYSICAL_NETWORK_IN_USE",
        remedy="use that network, or another segment",
        metadata={"field": "network.physical_network", "owner": error.owner},
    )


def _vlan_taken(error: UniqueViolation) -> CirraError:
    return _number_taken(error, f"VLAN {error.key} on {error.scope.partition('/')[2]}")


def _vxlan_taken(error: UniqueViolation) -> CirraError:
    return _number_taken(error, f"VXLAN {error.key}")


def _number_taken(error: UniqueViolation, what: str) -> CirraError:
    return AlreadyExists(
        f"network.segmentation_id: {what} is another network's; choose another, or none to get a free one",
        reason="SEGMENT_IN_USE",
        remedy="choose another number, or none to get a free one",
        metadata={"field": "network.segmentation_id", "owner": error.owner},
    )


_TAKEN: dict[str, Callable[[UniqueViolation], CirraError]] = {
    "address": _address_taken,
    "mac": _mac_taken,
    "physical-network": _segment_taken,
    "vlan": _vlan_taken,
    "vxlan": _vxlan_taken,
}


def _exceeded(error: LimitExceeded) -> CirraError:
    if error.scope.startswith(_QUOTA):
        return quota_exceeded(error)
    if error.scope == references.FLOATING_IPS_THROUGH:
        return _way_closed(error)
    if error.scope not in _REFERENCES:
        return error
    thing, users = _REFERENCES[error.scope]
    # 0: it went before this user came. Else it is asked to go, and has users.
    if error.limit == 0:
        return NotFound(f"no {thing} {error.key}: it has just been deleted", remedy="name another one")
    return _in_use(thing, error.key, error.used, users, _REMEDIES.get(error.scope, ""))


def _in_use(thing: str, key: str, used: int, users: str, remedy: str = "") -> FailedPrecondition:
    return FailedPrecondition(
        f"{thing} {key} is in use: it has {used} {users}",
        reason=f"{thing.upper().replace(' ', '_')}_IN_USE",
        remedy=remedy or f"delete its {users} first",
        metadata={"users": str(used)},
    )


def quota_exceeded(error: LimitExceeded) -> ResourceExhausted:
    """A project asks for more than it may have."""
    resource = error.scope.removeprefix(_QUOTA)
    return ResourceExhausted(
        f"the project's quota of {resource} is used up: {error.used} of {error.limit} used, {error.delta} more asked",
        reason="QUOTA_EXCEEDED",
        remedy=f"delete what is not needed, or ask an administrator for more {resource}",
        metadata={
            "resource": resource,
            "used": str(error.used),
            "limit": str(error.limit),
            "delta": str(error.delta),
        },
    )


def network_in_use(network_id: UUID, error: LimitExceeded) -> FailedPrecondition:
    """A network is asked to go, and is used, whether the log counted that on it or on a subnet that goes with it."""
    _, users = _REFERENCES.get(error.scope, ("", "ports"))
    return _in_use("network", str(network_id), error.used, users, _REMEDIES.get(error.scope, ""))


def _way_closed(error: LimitExceeded) -> FailedPrecondition:
    """A floating IP's way through a router has gone meanwhile, or is asked to go and is used."""
    router_id, _, way = error.key.partition("/")
    if error.limit == 0:
        return FailedPrecondition(
            f"port: the way through router {router_id} has just been closed",
            reason="EXTERNAL_NETWORK_NOT_REACHABLE",
            remedy="see `cirra router show`: it needs an interface on the port's subnet, and a gateway",
            metadata={"field": "port", "router": router_id},
        )
    return FailedPrecondition(
        f"router {router_id} is in use: {error.used} floating IPs lead through {way}",
        reason="ROUTER_IN_USE_BY_FLOATING_IP",
        remedy="disassociate those floating IPs first: `cirra floating-ip list` has them",
        metadata={"router": router_id, "users": str(error.used)},
    )


def project_in_use(project_id: UUID, error: LimitExceeded) -> FailedPrecondition:
    """A project is asked to go, and still has something: counted in it, or in its default group."""
    resource = _REFERENCES[error.scope][1] if error.scope in _REFERENCES else error.scope.removeprefix(_QUOTA)
    return FailedPrecondition(
        f"project {project_id} is in use: {error.used} {resource} are left in it",
        reason="PROJECT_IN_USE",
        remedy="delete the project's instances, ports, routers, floating IPs, networks, security groups and key pairs"
        " first",
        metadata={"resource": resource, "users": str(error.used)},
    )
