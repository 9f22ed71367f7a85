"""The table of permissions, and the tokens that carry roles."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api_gateway.auth.policy import NEEDS, Need, allow
from api_gateway.auth.revocations import Revocations
from api_gateway.auth.tokens import Tokens
from cirra.compute.v1 import compute_pb2, server_group_pb2
from cirra.events.v1 import events_pb2
from cirra.identity.v1 import identity_pb2
from cirra.identity.v1.events_pb2 import TokenRevoked
from cirra.identity.v1.identity_pb2 import ROLE_ADMIN, ROLE_MEMBER, ROLE_READER, Principal, Role
from cirra.image.v1 import image_pb2
from cirra.network.v1 import diagnosis_pb2, floating_ip_pb2, network_pb2, router_pb2, security_group_pb2
from cirra.operations.v1 import operations_pb2
from cirra.placement.v1 import aggregate_pb2, decisions_pb2, placement_pb2
from core.errors import PermissionDenied, Unauthenticated

PUBLIC = (
    aggregate_pb2,
    compute_pb2,
    decisions_pb2,
    diagnosis_pb2,
    events_pb2,
    floating_ip_pb2,
    identity_pb2,
    image_pb2,
    network_pb2,
    operations_pb2,
    placement_pb2,
    router_pb2,
    security_group_pb2,
    server_group_pb2,
)
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def _now() -> datetime:
    return NOW


def _principal(*roles: Role.ValueType, project: str = "p1") -> Principal:
    return Principal(user_id=str(uuid4()), user_name="alice", project_id=project, roles=roles)


def test_every_public_method_is_in_the_table_and_nothing_else() -> None:
    methods = {
        f"/{service.full_name}/{method.name}"
        for module in PUBLIC
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert set(NEEDS) == methods
    assert {method for method, need in NEEDS.items() if need is Need.NOTHING} == {
        "/cirra.identity.v1.IdentityService/CreateToken",
        "/cirra.placement.v1.HostService/Enroll",
    }


@pytest.mark.parametrize(
    ("method", "enough"),
    [
        ("/cirra.compute.v1.ComputeService/ListInstances", {ROLE_READER, ROLE_MEMBER, ROLE_ADMIN}),
        ("/cirra.compute.v1.ComputeService/CreateInstance", {ROLE_MEMBER, ROLE_ADMIN}),
        ("/cirra.compute.v1.ComputeService/CreateFlavor", {ROLE_ADMIN}),
        ("/cirra.placement.v1.HostService/ListHosts", {ROLE_ADMIN}),
    ],
)
def test_roles_that_are_enough(method: str, enough: set[Role.ValueType]) -> None:
    for role in (ROLE_READER, ROLE_MEMBER, ROLE_ADMIN):
        if role in enough:
            allow(method, _principal(role))
        else:
            with pytest.raises(PermissionDenied):
                allow(method, _principal(role))


def test_without_a_role_one_reads_flavors_only() -> None:
    nobody = _principal(project="")
    allow("/cirra.compute.v1.ComputeService/ListFlavors", nobody)
    with pytest.raises(PermissionDenied) as raised:
        allow("/cirra.compute.v1.ComputeService/ListInstances", nobody)
    assert raised.value.reason == "UNSCOPED_TOKEN"


def test_what_is_not_in_the_table_is_refused() -> None:
    with pytest.raises(PermissionDenied):
        allow("/cirra.conductor.v1.ComputeCommands/CreateFlavor", _principal(ROLE_ADMIN))


def test_a_token_says_who_and_until_when() -> None:
    clock = [NOW]
    tokens = Tokens(Ed25519PrivateKey.generate(), cell="c", lifetime=timedelta(hours=1), now=lambda: clock[0])
    alice = _principal(ROLE_MEMBER, ROLE_ADMIN)
    text, issued = tokens.issue(alice)
    assert tokens.verify(text) == issued
    assert issued.principal == alice and issued.expires_at == NOW + timedelta(hours=1)
    clock[0] = NOW + timedelta(hours=1)
    with pytest.raises(Unauthenticated) as raised:
        tokens.verify(text)
    assert raised.value.reason == "TOKEN_EXPIRED" and raised.value.remedy
    assert tokens.verify(text, expired_too=True) == issued


def test_a_token_of_another_cell_or_key_is_none() -> None:
    key = Ed25519PrivateKey.generate()
    text, _ = Tokens(key, cell="a", lifetime=timedelta(hours=1), now=_now).issue(_principal())
    for other in (
        Tokens(key, cell="b", lifetime=timedelta(hours=1), now=_now),
        Tokens(Ed25519PrivateKey.generate(), cell="a", lifetime=timedelta(hours=1), now=_now),
    ):
        with pytest.raises(Unauthenticated) as raised:
            other.verify(text)
        assert raised.value.reason == "TOKEN_INVALID"


def test_revocations_are_forgotten_when_the_token_would_have_expired() -> None:
    clock = [NOW]
    revocations = Revocations(lambda: clock[0])
    first, second, stale = uuid4(), uuid4(), uuid4()

    def until(moment: datetime) -> TokenRevoked:
        revoked = TokenRevoked()
        revoked.expire_time.FromDatetime(moment)
        return revoked

    revocations.add(first, until(NOW + timedelta(minutes=1)))
    revocations.add(stale, until(NOW - timedelta(minutes=1)))
    assert first in revocations and stale not in revocations
    clock[0] = NOW + timedelta(minutes=2)
    revocations.add(second, until(NOW + timedelta(hours=1)))
    assert first not in revocations and second in revocations
    assert len(revocations) == 1
