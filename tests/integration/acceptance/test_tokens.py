"""Who may not come in: tokens that are expired, revoked, forged, of another cloud, or none at all; at both gateways."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api_gateway.auth.tokens import Tokens, load_key
from cirra.identity.v1.identity_pb2 import ROLE_MEMBER, Principal
from cirra_sdk import AsyncClient
from cirra_sdk.errors import InvalidArgument, PermissionDenied, Unauthenticated
from cirra_sdk.state import Memory
from cirra_sdk.transport import NoToken, Transport
from tests.harness.cloud import Cloud, Parts, Standing, Tenant
from tests.integration.acceptance.refusals import refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIFETIME = timedelta(hours=1)
PATIENCE_S = 30.0


def _principal(tenant: Tenant) -> Principal:
    return Principal(
        user_id=tenant.user.uid,
        user_name=tenant.user.display_name,
        project_id=tenant.project.uid,
        roles=[ROLE_MEMBER],
    )


def _issued(tenant: Tenant, key: Ed25519PrivateKey | None = None, cell: str = "", age: timedelta = timedelta()) -> str:
    """A token for the tenant, as if issued so long ago."""
    cloud = tenant.cloud
    tokens = Tokens(
        key or load_key(cloud.plane.token_key_file),
        cell=cell or cloud.cell.name,
        lifetime=LIFETIME,
        now=lambda: datetime.now(UTC) - age,
    )
    return tokens.issue(_principal(tenant))[0]


def _unsigned(tenant: Tenant) -> str:
    claims = jwt.decode(_issued(tenant), options={"verify_signature": False})
    return jwt.encode(claims, "", algorithm="none")


async def _is_refused(tenant: Tenant, parts: Parts, client: AsyncClient, reason: str, says: str) -> None:
    """Reading, writing, watching, uploading."""
    async with refused(tenant.cloud, Unauthenticated, reason, says=says):
        await client.instances.get("web")
    async with refused(tenant.cloud, Unauthenticated, reason, says=says):
        await client.instances.create("web", flavor=parts.flavor, image=parts.image, networks=[parts.network])
    async with refused(tenant.cloud, Unauthenticated, reason, says=says):
        await anext(client.events.watch())
    async with refused(tenant.cloud, Unauthenticated, reason, says=says):
        await client.images.upload(parts.image, parts.disk)


@pytest.mark.parametrize("gateway", [0, 1])
async def test_no_good_token(standing: Standing, gateway: int) -> None:
    tenant = standing.tenant
    for token, reason, says in (
        (_issued(tenant, age=LIFETIME + timedelta(seconds=1)), "TOKEN_EXPIRED", "log in again"),
        (_issued(tenant, Ed25519PrivateKey.generate()), "TOKEN_INVALID", "log in again"),
        (_issued(tenant, cell="elsewhere"), "TOKEN_INVALID", "log in again"),
        (_unsigned(tenant), "TOKEN_INVALID", "log in again"),
        ("nonsense", "TOKEN_INVALID", "log in again"),
    ):
        client = tenant.cloud.account(token=token, gateway=gateway).client
        await _is_refused(tenant, standing.parts, client, reason, says)


@pytest.mark.parametrize("gateway", [0, 1])
async def test_no_token_at_all(standing: Standing, gateway: int) -> None:
    address = standing.tenant.cloud.plane.gateway_addresses[gateway]
    async with grpc.aio.insecure_channel(address) as channel:
        client = AsyncClient(Transport(channel, address, Memory(), NoToken()))
        await _is_refused(standing.tenant, standing.parts, client, "TOKEN_MISSING", "log in")


async def test_a_long_upload_is_told_why_it_is_refused_each_time(standing: Standing, tmp_path: Path) -> None:
    """Although the client is in the middle of sending it then."""
    tenant = standing.tenant
    path = tmp_path / "long"
    path.write_bytes(bytes(8 * 1024 * 1024))
    client = tenant.cloud.account(token=_issued(tenant, age=2 * LIFETIME)).client
    for _ in range(20):
        with pytest.raises(Unauthenticated) as raised:
            await client.images.upload(standing.parts.image, path)
        assert raised.value.reason == "TOKEN_EXPIRED"


async def test_the_right_key_and_time_make_a_good_token(standing: Standing) -> None:
    """That the refusals above are for the reasons that they name."""
    tenant = standing.tenant
    client = tenant.cloud.account(token=_issued(tenant, age=LIFETIME - timedelta(seconds=30))).client
    assert [each.uid async for each in client.networks.list()] == [standing.parts.network.uid]


async def test_a_revoked_token_is_refused_everywhere(tenant: Tenant, parts: Parts) -> None:
    text = await tenant.client.access_token()
    here, there = (tenant.cloud.account(token=text, gateway=gateway) for gateway in (0, 1))
    assert [each.uid async for each in there.client.networks.list()] == [parts.network.uid]
    await here.client.tokens.revoke(text)
    there.sees(here.client)
    for client in (here.client, there.client):
        await _is_refused(tenant, parts, client, "TOKEN_REVOKED", "log in again")
    # By password, another one is had; revoking what was revoked is no error.
    await tenant.at(1).tokens.revoke(text)
    assert (await tenant.at(1).networks.get(parts.network)).uid == parts.network.uid


async def test_a_role_that_is_taken_away_is_gone_at_once(tenant: Tenant, parts: Parts) -> None:
    cloud, roles = tenant.cloud, tenant.cloud.admin.users
    text = await tenant.client.access_token()
    clients = [cloud.account(token=text, gateway=gateway).client for gateway in (0, 1)]
    watching = [asyncio.create_task(_watch(client)) for client in clients]
    for client in clients:
        assert [each.uid async for each in client.networks.list()] == [parts.network.uid]
    await roles.revoke_role(tenant.user, ROLE_MEMBER, tenant.project)
    async with asyncio.timeout(PATIENCE_S):
        assert await asyncio.gather(*watching) == ["ROLE_REVOKED"] * 2
    for client in clients:
        await _is_refused(tenant, parts, client, "ROLE_REVOKED", "log in again")
    async with refused(cloud, PermissionDenied, "NO_ROLE_IN_PROJECT"):
        await tenant.at(1).networks.get(parts.network)
    await roles.grant_role(tenant.user, ROLE_MEMBER, tenant.project)
    assert (await tenant.at(1).networks.get(parts.network)).uid == parts.network.uid


async def test_a_user_that_is_deleted_is_let_in_no_more(cloud: Cloud) -> None:
    stranger = await cloud.tenant()
    client = cloud.account(token=await stranger.client.access_token()).client
    assert [each.uid async for each in client.networks.list()] == []
    await cloud.admin.users.delete(stranger.user)
    async with asyncio.timeout(PATIENCE_S):
        assert await _watch(client) == "ROLE_REVOKED"


async def _watch(client: AsyncClient) -> str:
    """Until the gateway ends it: the reason."""
    with pytest.raises(Unauthenticated) as raised:
        async for _ in client.events.watch():
            pass
    return raised.value.reason


async def test_nobody_ends_anothers_token(cloud: Cloud, standing: Standing) -> None:
    stranger = await cloud.tenant()
    text = await standing.tenant.client.access_token()
    await stranger.client.access_token()
    async with refused(cloud, PermissionDenied, "PERMISSION_DENIED", says="another user's"):
        await stranger.client.tokens.revoke(text)
    async with refused(cloud, Unauthenticated, "TOKEN_INVALID"):
        await stranger.client.tokens.revoke("nonsense")


async def test_a_wrong_login(cloud: Cloud, standing: Standing) -> None:
    name, stranger = standing.tenant.user.display_name, await cloud.tenant()
    for user, password in ((name, "wrong"), ("nobody", "wrong"), (name, "x" * 10_000), ("a\0b", "wrong")):
        async with refused(cloud, Unauthenticated, "WRONG_CREDENTIALS", says="wrong user name or password"):
            await cloud.admin.tokens.create(user, password)
    for project in (stranger.project.display_name, stranger.project.uid, "nothing"):
        async with refused(cloud, PermissionDenied, "NO_ROLE_IN_PROJECT"):
            await cloud.admin.tokens.create(name, standing.tenant.password, project)
    for field, user, password in (("user", "", "x"), ("password", "x", "")):
        async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", field):
            await cloud.admin.tokens.create(user, password)
