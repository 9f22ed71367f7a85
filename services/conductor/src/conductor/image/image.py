"""The image: what is said of a disk that guests are made of. Its blob is durable before it is active."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from uuid import UUID

from cirra.image.v1 import events_pb2 as pb
from cirra.image.v1 import image_pb2 as public
from conductor import references
from conductor.fields import Fields
from conductor.requests import require_live
from core.aggregate import Aggregate, applies, constrains
from core.errors import FailedPrecondition
from core.eventlog.types import Constraint

_SHA256 = re.compile(r"[0-9a-f]{64}")
_FORMATS: Mapping[int, str] = {public.DISK_FORMAT_QCOW2: "qcow2", public.DISK_FORMAT_RAW: "raw"}
_MAX_GIB = 64 * 1024
_MAX_MIB = 16 * 1024 * 1024
_MAX_BYTES = 2**56


class Image(Aggregate, kind="image"):
    """`sha256` and sizes are those of the blob, once it is active."""

    project_id: str = ""
    display_name: str = ""
    status: public.ImageStatus.ValueType = public.IMAGE_STATUS_QUEUED
    disk_format: public.DiskFormat.ValueType = public.DISK_FORMAT_UNSPECIFIED
    min_disk_gib: int = 0
    min_memory_mib: int = 0
    properties: dict[str, str] = field(default_factory=dict)
    visibility: public.ImageVisibility.ValueType = public.IMAGE_VISIBILITY_PRIVATE
    sha256: str = ""
    size_bytes: int = 0
    virtual_size_bytes: int = 0
    deleted: bool = False

    @property
    def resource_name(self) -> str:
        return f"images/{self.id}"

    @property
    def active(self) -> bool:
        return self.status == public.IMAGE_STATUS_ACTIVE

    @property
    def disk_format_name(self) -> str:
        """As QEMU calls it."""
        return _FORMATS[self.disk_format]

    def visible_to(self, project_id: str) -> bool:
        """Whether a project may boot it."""
        return self.visibility == public.IMAGE_VISIBILITY_PUBLIC or self.project_id == project_id

    @classmethod
    def create(cls, image_id: UUID, wanted: public.Image, *, project_id: str) -> Image:
        """Announced, without data. Raises InvalidArgument."""
        _check(wanted)
        image = cls.new(image_id)
        image.record(
            pb.ImageCreated(
                project_id=project_id,
                display_name=wanted.display_name,
                disk_format=wanted.disk_format,
                min_disk_gib=wanted.min_disk_gib,
                min_memory_mib=wanted.min_memory_mib,
                properties=wanted.properties,
                visibility=wanted.visibility or public.IMAGE_VISIBILITY_PRIVATE,
            )
        )
        return image

    def activate(self, sha256: str, *, size_bytes: int, virtual_size_bytes: int) -> None:
        """Its blob is there. The same blob again changes nothing; another one is refused with FailedPrecondition."""
        require_live(self)
        fields = Fields()
        if not _SHA256.fullmatch(sha256):
            fields.refuse("sha256", "give 64 hexadecimal digits in lower case")
        fields.between("size_bytes", size_bytes, 1, _MAX_BYTES, "bytes")
        fields.between("virtual_size_bytes", virtual_size_bytes, 1, _MAX_BYTES, "bytes")
        fields.check()
        if self.active and self.sha256 == sha256:
            return
        self._require_no_data()
        self.record(pb.ImageActivated(sha256=sha256, size_bytes=size_bytes, virtual_size_bytes=virtual_size_bytes))

    def reject(self, reason: str, message: str) -> None:
        """Its data was refused; it may be uploaded again. Raises FailedPrecondition when active."""
        require_live(self)._require_no_data()
        if not reason:
            fields = Fields()
            fields.refuse("reason", "it is empty: say why, such as IMAGE_HAS_BACKING_FILE")
            fields.check()
        self.record(pb.ImageRejected(reason=reason, message=message))

    def delete(self) -> None:
        """Refused by the log while an instance uses it. Raises NotFound when deleted."""
        require_live(self).record(pb.ImageDeleted(sha256=self.sha256))

    def _require_no_data(self) -> None:
        if self.active:
            raise FailedPrecondition(
                f"image {self.id} has its data already, and that never changes",
                reason="IMAGE_ACTIVE",
                remedy="create another image",
            )

    @applies(pb.ImageCreated)
    def _created(self, event: pb.ImageCreated) -> None:
        self.project_id, self.display_name = event.project_id, event.display_name
        self.disk_format, self.visibility = event.disk_format, event.visibility
        self.min_disk_gib, self.min_memory_mib = event.min_disk_gib, event.min_memory_mib
        self.properties = dict(event.properties)

    @applies(pb.ImageActivated)
    def _activated(self, event: pb.ImageActivated) -> None:
        self.status, self.sha256 = public.IMAGE_STATUS_ACTIVE, event.sha256
        self.size_bytes, self.virtual_size_bytes = event.size_bytes, event.virtual_size_bytes

    @applies(pb.ImageRejected)
    def _rejected(self, event: pb.ImageRejected) -> None:
        self.status = public.IMAGE_STATUS_REJECTED

    @applies(pb.ImageDeleted)
    def _deleted(self, event: pb.ImageDeleted) -> None:
        self.deleted = True


def _check(wanted: public.Image) -> None:
    fields = Fields("image.")
    fields.title("display_name", wanted.display_name)
    if wanted.disk_format not in _FORMATS:
        fields.refuse("disk_format", "give DISK_FORMAT_QCOW2 or DISK_FORMAT_RAW: it is never guessed")
    fields.between("min_disk_gib", wanted.min_disk_gib, 0, _MAX_GIB, "GiB")
    fields.between("min_memory_mib", wanted.min_memory_mib, 0, _MAX_MIB, "MiB")
    fields.texts("properties", wanted.properties)
    if wanted.visibility not in public.ImageVisibility.values():
        fields.refuse("visibility", "give IMAGE_VISIBILITY_PRIVATE or IMAGE_VISIBILITY_PUBLIC")
    fields.check()


@constrains(pb.ImageDeleted)
def _ends(image_id: UUID, event: pb.ImageDeleted) -> Iterator[Constraint]:
    yield from references.gone(references.IMAGE_USERS, str(image_id))
