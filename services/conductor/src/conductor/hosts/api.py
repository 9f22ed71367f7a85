"""What enrolled hosts may ask: their own desired state, and the images of their own guests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from uuid import UUID

import grpc
import jwt

from cirra.agent.v1 import host_pb2 as api
from cirra.agent.v1 import host_pb2_grpc
from conductor.hosts.desired_state import DesiredState
from conductor.image.image import Image
from core.errors import PermissionDenied
from core.repository import Repository
from core.rpc.context import require_host

TICKET_TTL = timedelta(minutes=30)
TICKET_AUDIENCE = "image-download"


class HostAgentServicer(host_pb2_grpc.HostAgentServiceServicer):
    """`caught_up` returns once the projection of desired state has all that is in the log, and tells its position.

    `now`: the time by which gateways judge the tickets that are made here.
    """

    def __init__(
        self,
        repository: Repository,
        desired_state: DesiredState,
        caught_up: Callable[[], Awaitable[int]],
        *,
        ticket_key: bytes,
        download_url: str,
        now: Callable[[], datetime],
    ) -> None:
        self._repository = repository
        self._desired_state = desired_state
        self._caught_up = caught_up
        self._ticket_key = ticket_key
        self._download_url = download_url.rstrip("/")
        self._now = now

    async def GetDesiredState(
        self, request: api.GetDesiredStateRequest, context: grpc.aio.ServicerContext
    ) -> api.GetDesiredStateResponse:
        require_host(request.host)
        position = await self._caught_up()
        # A position of a history that the log no longer has: everything.
        since = request.since if 0 < request.since <= position else 0
        objects = await self._desired_state.of_host(request.host, request.agent, since)
        return api.GetDesiredStateResponse(objects=objects, position=position, complete=since == 0)

    async def GetImageDownload(
        self, request: api.GetImageDownloadRequest, context: grpc.aio.ServicerContext
    ) -> api.GetImageDownloadResponse:
        require_host(request.host)
        await self._caught_up()
        if not await self._desired_state.host_uses_image(request.host, request.image_id):
            raise PermissionDenied(f"no guest of {request.host} is made of image {request.image_id}")
        image = await self._repository.load(Image, UUID(request.image_id))
        claims = {
            "aud": TICKET_AUDIENCE,
            "host": request.host,
            "sha256": image.sha256,
            "exp": self._now() + TICKET_TTL,
        }
        return api.GetImageDownloadResponse(
            url=f"{self._download_url}/{image.sha256}",
            ticket=jwt.encode(claims, self._ticket_key, algorithm="HS256"),
            sha256=image.sha256,
            size_bytes=image.size_bytes,
            disk_format=image.disk_format_name,
        )
