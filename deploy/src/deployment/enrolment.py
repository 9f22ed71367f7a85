"""Hosts on this machine join its cloud: by a one-time token, through the public API, as any other would."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from pathlib import Path

import structlog

from cirra.placement.v1.placement_pb2 import HOST_STATE_UP, Host
from cirra_sdk import AsyncClient
from core.agent.identity import HostIdentity, enroll, is_enrolled
from core.errors import CirraError
from deployment import clouds, secrets
from deployment.layout import Layout
from deployment.servers import Servers
from deployment.services import Addresses

_log = structlog.get_logger(__name__)
_TOKEN_TTL_S = 300
_USABLE_TIMEOUT_S = 60.0
_POLL_S = 0.2


class HostNotUsable(CirraError):
    """Its agents run, and yet it takes no guests."""

    reason = "HOST_NOT_USABLE"


async def ensure_enrolled(layout: Layout, folder: Path, name: str, addresses: Addresses, servers: Servers) -> bool:
    """Afterwards the identity of host *name* is in *folder*, and says where the cloud is now; was that news?"""
    if is_enrolled(folder):
        return _refresh(HostIdentity.load(folder), addresses, servers)
    async with AsyncClient.of(clouds.admin(layout)) as client:
        token = await client.enrolment_tokens.create(name, ttl_seconds=_TOKEN_TTL_S)
    await enroll(addresses.gateway[0], secrets.authority_file(layout), name, token.token, folder)
    return True


async def wait_usable(layout: Layout, name: str, logs: Path) -> None:
    """Returns once a guest would find room there: the host is up and has told what it has. Raises HostNotUsable.

    *logs*: the folder of its agents' logs.
    """
    deadline = time.monotonic() + _USABLE_TIMEOUT_S
    async with AsyncClient.of(clouds.admin(layout)) as client:
        while not _is_usable(host := await client.hosts.get(name)):
            if time.monotonic() > deadline:
                raise HostNotUsable(
                    f"host {name} is not usable after {_USABLE_TIMEOUT_S:g} s: state {host.state}, "
                    f"{host.inventory.vcpus} vCPUs, {host.inventory.memory_mib} MiB, {host.inventory.disk_gib} GiB",
                    remedy=f"see the agents' logs in {logs}",
                )
            await asyncio.sleep(_POLL_S)


def _is_usable(host: Host) -> bool:
    # libvirtd takes seconds to look at a new machine; before that there are no processors to give.
    return host.state == HOST_STATE_UP and host.inventory.vcpus > 0 and host.inventory.disk_gib > 0


def _refresh(identity: HostIdentity, addresses: Addresses, servers: Servers) -> bool:
    """A port may have changed since the enrolment, when somebody else had taken it."""
    current = dataclasses.replace(
        identity,
        nats_urls=servers.nats_urls,
        conductor_addresses=addresses.conductor,
        metadata_url=addresses.metadata_url,
        image_download_url=addresses.image_download_url,
    )
    if current == identity:
        return False
    _log.info("the cloud has moved", conductors=current.conductor_addresses, nats=current.nats_urls)
    current.save()
    return True
