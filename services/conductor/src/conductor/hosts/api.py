"""What enrolled hosts may ask: their own desired state, and the images of their own guests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from uuid import UUID

import grpc
import jwt

from cirra.agent.v1 import host_pb2 as api
from cirra.agent.v1 import host_pb2_grpc
from conductor.hosts.contents import HostContents
from conductor.hosts.wishes import HostWishes
from conductor.image.image import Image
from core.errors import PermissionDenied, Unavailable
from core.eventlog.types import Head
from core.repository import Repository
from core.rpc.context import require_host

TICKET_TTL = timedelta(minutes=30)
TICKET_AUDIENCE = "image-download"


class HostAgentServicer(host_pb2_grpc.HostAgentServiceServicer):
    """`caught_up` returns once the projections of desired state have all that is in the log, and tells the head.

    `now`: the time by which gateways judge the tickets that are made here.
    """

    def __init__(
        self,
        repository: Repository,
        wishes: HostWishes,
        contents: HostContents,
        caught_up: Callable[[], Awaitable[Head]],
        *,
        ticket_key: bytes,
        download_url: str,
        now: Callable[[], datetime],
    ) -> None:
        self._repository = repository
        self._wishes = wishes
        self._contents = contents
        self._caught_up = caught_up
        self._ticket_key = ticket_key
        self._download_url = download_url.rstrip("/")
        self._now = now

    async def GetDesiredState(
        self, request: api.GetDesiredStateRequest, context: grpc.aio.ServicerContext
    ) -> api.GetDesiredStateResponse:
        require_host(request.host)
        head = await self._caught_up()
        standing = await self._wishes.standing(request.host)
        answer = api.GetDesiredStateResponse(
            position=head.position, epoch=standing.epoch, accepted_epoch=standing.accepted_epoch
        )
        if standing.observe_only:
            return answer
        if standing.epoch != head.epoch:
            raise Unavailable("the log has begun a new epoch just now; try again")
        # A position of a history that the log no longer has: everything.
        same_history = request.epoch in (0, head.epoch) and 0 < request.since <= head.position
        wishes = await self._wishes.of_host(
            request.host, request.agent, request.since if same_history else 0, head.position
        )
        answer.objects.extend(wishes.objects)
        for desired in answer.objects:
            # As in a command: what is in the log has none, and would be refused as one of before.
            desired.epoch = head.epoch
        answer.complete = wishes.complete
        return answer

    async def ReportContents(
        self, request: api.ReportContentsRequest, context: grpc.aio.ServicerContext
    ) -> api.ReportContentsResponse:
        require_host(request.host)
        await self._contents.put(request)
        return api.ReportContentsResponse()

    async def GetImageDownload(
        self, request: api.GetImageDownloadRequest, context: grpc.aio.ServicerContext
    ) -> api.GetImageDownloadResponse:
        require_host(request.host)
        await self._caught_up()
        if not await self._wishes.host_uses_image(request.host, request.image_id):
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
