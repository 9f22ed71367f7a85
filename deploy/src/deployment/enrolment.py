"""This machine becomes a host of its own cloud: by a one-time token, through the public API, as any other would."""

from __future__ import annotations

import dataclasses

import structlog

from cirra.identity.v1.identity_pb2 import CreateTokenRequest
from cirra.identity.v1.identity_pb2_grpc import IdentityServiceStub
from cirra.placement.v1.placement_pb2 import CreateEnrolmentTokenRequest
from cirra.placement.v1.placement_pb2_grpc import HostServiceStub
from core.agent.identity import HostIdentity, enroll, is_enrolled
from core.ids import uuid7
from core.rpc.client import channel, server_only_credentials
from core.rpc.retry import retried
from deployment import clouds, secrets
from deployment.config import Config
from deployment.layout import Layout
from deployment.services import Addresses, Servers

_log = structlog.get_logger(__name__)
_TOKEN_TTL_S = 300


async def ensure_enrolled(layout: Layout, config: Config, addresses: Addresses, servers: Servers) -> None:
    """Afterwards the host's identity is in `layout.host`, and says where the cloud is now."""
    if is_enrolled(layout.host):
        _refresh(HostIdentity.load(layout.host), addresses, servers)
        return
    token = await _enrolment_token(layout, config, addresses.gateway[0])
    await enroll(addresses.gateway[0], secrets.authority_file(layout), config.host, token, layout.host)


def _refresh(identity: HostIdentity, addresses: Addresses, servers: Servers) -> None:
    """A port may have changed since the enrolment, when somebody else had taken it."""
    current = dataclasses.replace(
        identity,
        nats_urls=servers.nats_urls,
        conductor_address=addresses.conductor[0],
        metadata_url=addresses.metadata_url,
        image_download_url=addresses.image_download_url,
    )
    if current != identity:
        _log.info("the cloud has moved", conductor=current.conductor_address, nats=current.nats_urls)
        current.save()


async def _enrolment_token(layout: Layout, config: Config, gateway: str) -> str:
    """Raises what the gateway says (Unauthenticated, …)."""
    credentials = server_only_credentials(secrets.authority_file(layout).read_bytes())
    login = CreateTokenRequest(
        user=clouds.ADMIN,
        password=secrets.admin_password(layout).read_text().strip(),
        project=clouds.ADMIN,
    )
    question = CreateEnrolmentTokenRequest(host=config.host, ttl_seconds=_TOKEN_TTL_S, request_id=str(uuid7()))
    async with channel([gateway], None, credentials=credentials) as over:
        access = await retried(lambda: IdentityServiceStub(over).CreateToken(login))
        metadata = (("authorization", f"Bearer {access.access_token}"),)
        answer = await retried(lambda: HostServiceStub(over).CreateEnrolmentToken(question, metadata=metadata))
    token: str = answer.token
    return token
