"""Images."""

from __future__ import annotations

from api_gateway.views.view import Audience, Columns, View
from cirra.image.v1 import events_pb2 as events
from cirra.image.v1 import image_pb2 as pb
from core.eventlog.types import RecordedEvent

IMAGE = View(
    "image",
    pb.Image,
    columns=lambda image: Columns(
        project_id=image.project_id,
        # An image is found by its blob: what no image is about is nobody's.
        about=image.sha256,
        display_name=image.display_name,
        state=pb.ImageStatus.Name(image.status),
        public=image.visibility == pb.IMAGE_VISIBILITY_PUBLIC,
    ),
    audience=Audience.PROJECT_OR_PUBLIC,
)


@IMAGE.on(events.ImageCreated, begins=True)
def _created(image: pb.Image, event: RecordedEvent, message: events.ImageCreated) -> None:
    image.name = f"images/{image.uid}"
    image.project_id = message.project_id
    image.display_name = message.display_name
    image.status = pb.IMAGE_STATUS_QUEUED
    image.disk_format = message.disk_format
    image.min_disk_gib = message.min_disk_gib
    image.min_memory_mib = message.min_memory_mib
    image.properties.update(message.properties)
    image.visibility = message.visibility


@IMAGE.on(events.ImageActivated)
def _activated(image: pb.Image, event: RecordedEvent, message: events.ImageActivated) -> None:
    image.status = pb.IMAGE_STATUS_ACTIVE
    image.status_reason = ""
    image.sha256 = message.sha256
    image.size_bytes = message.size_bytes
    image.virtual_size_bytes = message.virtual_size_bytes


@IMAGE.on(events.ImageRejected)
def _rejected(image: pb.Image, event: RecordedEvent, message: events.ImageRejected) -> None:
    image.status = pb.IMAGE_STATUS_REJECTED
    image.status_reason = f"{message.reason}: {message.message}"


@IMAGE.on(events.ImageDeleted, ends=True)
def _deleted(image: pb.Image, event: RecordedEvent, message: events.ImageDeleted) -> None:
    """Its last state stays."""
