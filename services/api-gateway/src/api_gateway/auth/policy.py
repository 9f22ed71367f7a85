"""Which method needs which role: one table, and what is not in it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from cirra.identity.v1.identity_pb2 import ROLE_ADMIN, ROLE_MEMBER, ROLE_READER, Principal
from core.errors import PermissionDenied


class Need(IntEnum):
    """From nothing to everything. READER: also a token without a project, which sees what is everyone's."""

    NOTHING = 0
    TOKEN = 1
    READER = 2
    MEMBER = 3
    ADMIN = 4


_TABLE: Mapping[str, Mapping[str, Need]] = {
    "cirra.identity.v1.IdentityService": {
        "CreateToken": Need.NOTHING,
        "RevokeToken": Need.TOKEN,
        "CreateProject": Need.ADMIN,
        "GetProject": Need.TOKEN,
        "ListProjects": Need.TOKEN,
        "DeleteProject": Need.ADMIN,
        "CreateUser": Need.ADMIN,
        "GetUser": Need.TOKEN,
        "ListUsers": Need.TOKEN,
        "DeleteUser": Need.ADMIN,
        "GrantRole": Need.ADMIN,
        "RevokeRole": Need.ADMIN,
        "GetQuotas": Need.READER,
        "SetQuotas": Need.ADMIN,
        "GetDefaultQuotas": Need.TOKEN,
        "SetDefaultQuotas": Need.ADMIN,
    },
    "cirra.compute.v1.ComputeService": {
        "CreateFlavor": Need.ADMIN,
        "GetFlavor": Need.TOKEN,
        "ListFlavors": Need.TOKEN,
        "DeleteFlavor": Need.ADMIN,
        "CreateKeyPair": Need.MEMBER,
        "GetKeyPair": Need.TOKEN,
        "ListKeyPairs": Need.TOKEN,
        "DeleteKeyPair": Need.MEMBER,
        "CreateInstance": Need.MEMBER,
        "CreateInstances": Need.MEMBER,
        "GetInstance": Need.READER,
        "ListInstances": Need.READER,
        "DeleteInstance": Need.MEMBER,
        "UpdateInstance": Need.MEMBER,
        "LockInstance": Need.MEMBER,
        "UnlockInstance": Need.MEMBER,
        "StartInstance": Need.MEMBER,
        "StopInstance": Need.MEMBER,
        "RebootInstance": Need.MEMBER,
        "AttachInterface": Need.MEMBER,
        "DetachInterface": Need.MEMBER,
        # Guests print secrets on it when they boot.
        "GetConsoleOutput": Need.MEMBER,
        # A secret, and who has it is the guest's administrator.
        "GetInstancePassword": Need.MEMBER,
        "WatchInstances": Need.READER,
    },
    "cirra.image.v1.ImageService": {
        "CreateImage": Need.MEMBER,
        "UploadImageData": Need.MEMBER,
        "GetImage": Need.READER,
        "ListImages": Need.READER,
        "DeleteImage": Need.MEMBER,
    },
    "cirra.network.v1.NetworkService": {
        "CreateNetwork": Need.MEMBER,
        "GetNetwork": Need.READER,
        "ListNetworks": Need.READER,
        "UpdateNetwork": Need.MEMBER,
        "DeleteNetwork": Need.MEMBER,
        "CreateSubnet": Need.MEMBER,
        "GetSubnet": Need.READER,
        "ListSubnets": Need.READER,
        "UpdateSubnet": Need.MEMBER,
        "DeleteSubnet": Need.MEMBER,
        "CreatePort": Need.MEMBER,
        "GetPort": Need.READER,
        "ListPorts": Need.READER,
        "UpdatePort": Need.MEMBER,
        "DeletePort": Need.MEMBER,
    },
    "cirra.network.v1.RouterService": {
        "CreateRouter": Need.MEMBER,
        "GetRouter": Need.READER,
        "ListRouters": Need.READER,
        "UpdateRouter": Need.MEMBER,
        "DeleteRouter": Need.MEMBER,
        "AddRouterInterface": Need.MEMBER,
        "RemoveRouterInterface": Need.MEMBER,
        "SetRouterGateway": Need.MEMBER,
        "ClearRouterGateway": Need.MEMBER,
    },
    "cirra.network.v1.FloatingIpService": {
        "CreateFloatingIp": Need.MEMBER,
        "GetFloatingIp": Need.READER,
        "ListFloatingIps": Need.READER,
        "DeleteFloatingIp": Need.MEMBER,
        "AssociateFloatingIp": Need.MEMBER,
        "DisassociateFloatingIp": Need.MEMBER,
    },
    # It tells of hosts, and of what is on them.
    "cirra.network.v1.DiagnosisService": {"Diagnose": Need.ADMIN},
    "cirra.network.v1.SecurityGroupService": {
        "CreateSecurityGroup": Need.MEMBER,
        "GetSecurityGroup": Need.READER,
        "ListSecurityGroups": Need.READER,
        "UpdateSecurityGroup": Need.MEMBER,
        "DeleteSecurityGroup": Need.MEMBER,
        "AddSecurityGroupRule": Need.MEMBER,
        "RemoveSecurityGroupRule": Need.MEMBER,
    },
    "cirra.operations.v1.OperationService": {
        "GetOperation": Need.READER,
        "ListOperations": Need.READER,
        "WatchOperation": Need.READER,
        "RetryOperation": Need.ADMIN,
        "ResolveOperation": Need.ADMIN,
        "CancelOperation": Need.ADMIN,
    },
    "cirra.events.v1.EventService": {
        "ListEvents": Need.READER,
        "WatchEvents": Need.READER,
        "GetTimeline": Need.READER,
        "GetResourceAsOf": Need.READER,
    },
    "cirra.compute.v1.ServerGroupService": {
        "CreateServerGroup": Need.MEMBER,
        "GetServerGroup": Need.READER,
        "ListServerGroups": Need.READER,
        "DeleteServerGroup": Need.MEMBER,
    },
    "cirra.placement.v1.AggregateService": {
        "CreateAggregate": Need.ADMIN,
        "GetAggregate": Need.ADMIN,
        "ListAggregates": Need.ADMIN,
        "UpdateAggregate": Need.ADMIN,
        "DeleteAggregate": Need.ADMIN,
        "AddAggregateHost": Need.ADMIN,
        "RemoveAggregateHost": Need.ADMIN,
    },
    "cirra.placement.v1.PlacementService": {
        "ListAvailabilityZones": Need.TOKEN,
        "ExplainPlacement": Need.ADMIN,
        "SimulatePlacement": Need.ADMIN,
    },
    "cirra.placement.v1.HostService": {
        "GetHost": Need.ADMIN,
        "ListHosts": Need.ADMIN,
        "ListHostDifferences": Need.ADMIN,
        "AcceptHostDifferences": Need.ADMIN,
        "EnableHost": Need.ADMIN,
        "DisableHost": Need.ADMIN,
        "UpdateHost": Need.ADMIN,
        "ApproveEvacuation": Need.ADMIN,
        "ListServices": Need.ADMIN,
        "CreateEnrolmentToken": Need.ADMIN,
        # The enrolment token is the proof.
        "Enroll": Need.NOTHING,
    },
}

NEEDS: Mapping[str, Need] = {
    f"/{service}/{method}": need for service, methods in _TABLE.items() for method, need in methods.items()
}
"""gRPC method, "/package.Service/Method" → what it needs."""

_ENOUGH: Mapping[Need, frozenset[int]] = {
    Need.READER: frozenset({ROLE_READER, ROLE_MEMBER, ROLE_ADMIN}),
    Need.MEMBER: frozenset({ROLE_MEMBER, ROLE_ADMIN}),
    Need.ADMIN: frozenset({ROLE_ADMIN}),
}
_NAMES: Mapping[Need, str] = {Need.READER: "reader", Need.MEMBER: "member", Need.ADMIN: "administrator"}


def need_of(method: str) -> Need:
    """What a method needs. Raises PermissionDenied for one that is not in the table."""
    need = NEEDS.get(method)
    if need is None:
        raise PermissionDenied(f"{method} is not open to anybody", reason="METHOD_NOT_OPEN")
    return need


def allow(method: str, principal: Principal) -> None:
    """Raises PermissionDenied unless a role of the principal is enough."""
    need = need_of(method)
    enough = _ENOUGH.get(need)
    if enough is None or enough.intersection(principal.roles):
        return
    if need is not Need.ADMIN and not principal.project_id:
        raise PermissionDenied(
            "the token is for no project", reason="UNSCOPED_TOKEN", remedy="log in again and name a project"
        )
    raise PermissionDenied(
        f"{method.rpartition('/')[2]} needs the role of {_NAMES[need]}",
        reason="ROLE_MISSING",
        remedy="ask an administrator for the role",
        metadata={"role": _NAMES[need]},
    )
