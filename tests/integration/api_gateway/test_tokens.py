"""Who may call: tokens that are missing, expired, forged, revoked; and principals that a caller makes up."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api_gateway.auth.tokens import Tokens
from cirra.compute.v1 import compute_pb2 as compute
from cirra.identity.v1 import identity_pb2 as identity
from cirra.placement.v1 import placement_pb2 as placement
from core.errors import PermissionDenied, Unauthenticated
from core.rpc.metadata import ACTOR
from tests.integration.api_gateway.world import Client, Gateway, World, new_project


def _tokens(world: World, key: Ed25519PrivateKey, **others: object) -> Tokens:
    now = {"now": lambda: datetime.now(UTC)}
    return Tokens(key, cell=world.cell.name, lifetime=timedelta(hours=1), **now | others)  # type: ignore[arg-type]


async def _list(client: Client) -> compute.ListInstancesResponse:
    listed: compute.ListInstancesResponse = await client.call(
        client.compute.ListInstances, compute.ListInstancesRequest()
    )
    return listed


async def test_login_gives_a_token_of_an_hour(world: World, gateway: Gateway) -> None:
    alice = world.user("alice", new_project())
    client = gateway.anonymous()
    answer = await client.identity.CreateToken(identity.CreateTokenRequest(user="alice", password="alice"))
    assert answer.principal == alice
    lifetime = answer.expire_time.ToDatetime(UTC) - datetime.now(UTC)
    assert timedelta(minutes=59) < lifetime <= timedelta(hours=1)
    claims = jwt.decode(answer.access_token, options={"verify_signature": False})
    assert (claims["sub"], claims["project"], claims["roles"]) == (alice.user_id, alice.project_id, ["ROLE_MEMBER"])
    with pytest.raises(Unauthenticated) as raised:
        await client.identity.CreateToken(identity.CreateTokenRequest(user="alice", password="wrong"))
    assert raised.value.reason == "WRONG_CREDENTIALS"


async def test_tokens_that_are_none(world: World, gateway: Gateway) -> None:
    alice = world.user("alice", new_project())
    expired, _ = _tokens(world, world.token_key, now=lambda: datetime.now(UTC) - timedelta(hours=2)).issue(alice)
    forged, _ = _tokens(world, Ed25519PrivateKey.generate()).issue(alice)
    claims = jwt.decode(forged, options={"verify_signature": False})
    unsigned = jwt.encode(claims, None, algorithm="none")  # type: ignore[arg-type]
    for token, reason in (
        ("", "TOKEN_MISSING"),
        ("nonsense", "TOKEN_INVALID"),
        (expired, "TOKEN_EXPIRED"),
        (forged, "TOKEN_INVALID"),
        (unsigned, "TOKEN_INVALID"),
    ):
        with pytest.raises(Unauthenticated) as raised:
            await _list(gateway.with_token(token))
        assert raised.value.reason == reason
        assert raised.value.remedy


async def test_a_revoked_token_is_refused_by_every_replica(world: World) -> None:
    world.user("alice", new_project())
    world.user("bob", new_project())
    async with world.gateway("g1") as first, world.gateway("g2") as second:
        alice = await first.login("alice")
        bob = await first.login("bob")
        elsewhere = second.with_token(alice.token)
        assert not (await _list(elsewhere)).instances
        revoke = identity.RevokeTokenRequest(access_token=alice.token)
        with pytest.raises(PermissionDenied):
            await bob.call(bob.identity.RevokeToken, revoke)
        await alice.call(alice.identity.RevokeToken, revoke)
        elsewhere.position = alice.position
        for client in (alice, elsewhere):
            with pytest.raises(Unauthenticated) as raised:
                await _list(client)
            assert raised.value.reason == "TOKEN_REVOKED"
        assert not (await _list(bob)).instances
    async with world.gateway("g3") as later:
        with pytest.raises(Unauthenticated):
            await _list(later.with_token(alice.token))


async def test_a_principal_in_the_metadata_is_ignored(world: World, gateway: Gateway) -> None:
    alice = world.user("alice", new_project())
    root = identity.Principal(user_id=alice.user_id, project_id=alice.project_id, roles=[identity.ROLE_ADMIN])
    claimed = (ACTOR, root.SerializeToString())
    client = await gateway.login("alice")
    with pytest.raises(Unauthenticated):
        await client.hosts.ListHosts(placement.ListHostsRequest(), metadata=(claimed,))
    with pytest.raises(PermissionDenied):
        await client.hosts.ListHosts(placement.ListHostsRequest(), metadata=(*client.metadata, claimed))


async def test_services_are_listed_for_administrators(world: World, gateway: Gateway) -> None:
    world.user("root", new_project(), identity.ROLE_ADMIN)
    root = await gateway.login("root")
    listed = await root.call(root.hosts.ListServices, placement.ListServicesRequest())
    assert [(status.service, status.instance, status.up) for status in listed.services] == [
        ("compute-agent", "host-1", False),
        ("conductor", "c1", True),
    ]


async def _watch(client: Client) -> Unauthenticated:
    """Watches until the gateway ends it."""
    with pytest.raises(Unauthenticated) as raised:
        async for _ in client.stream(client.compute.WatchInstances, compute.WatchInstancesRequest()):
            pass
    return raised.value


async def test_a_watch_ends_when_its_token_does(world: World, gateway: Gateway) -> None:
    principal = world.user("alice", new_project())
    alice = await gateway.login("alice")
    short, _ = _tokens(world, world.token_key, now=lambda: datetime.now(UTC) - timedelta(minutes=59, seconds=58)).issue(
        principal
    )
    async with asyncio.timeout(60):
        until_revoked = asyncio.create_task(_watch(alice))
        until_expired = asyncio.create_task(_watch(gateway.with_token(short)))
        assert (await until_expired).reason == "TOKEN_EXPIRED"
        assert not until_revoked.done()
        other = await gateway.login("alice")
        await other.call(other.identity.RevokeToken, identity.RevokeTokenRequest(access_token=alice.token))
        assert (await until_revoked).reason == "TOKEN_REVOKED"
