"""ImageService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from api_gateway.api.call import Call, Parts, Servicer, served
from api_gateway.api.fields import Fields
from api_gateway.api.forward import forwarded, named, nothing, the
from api_gateway.api.present import presented
from api_gateway.api.read import getter, lister
from api_gateway.images.upload import FORMATS, Uploads
from api_gateway.views.image import IMAGE
from cirra.image.v1 import image_pb2 as pb
from cirra.image.v1 import image_pb2_grpc
from core.errors import NotFound

MAX_GIB = 64 * 1024
MAX_MIB = 16 * 1024 * 1024


async def _prepare_image(command: pb.CreateImageRequest, call: Call) -> None:
    image, fields = command.image, Fields("image.")
    fields.title("display_name", image.display_name)
    if image.disk_format not in FORMATS:
        fields.refuse("disk_format", "give DISK_FORMAT_QCOW2 or DISK_FORMAT_RAW: it is never guessed")
    fields.between("min_disk_gib", image.min_disk_gib, 0, MAX_GIB, "GiB")
    fields.between("min_memory_mib", image.min_memory_mib, 0, MAX_MIB, "MiB")
    fields.texts("properties", image.properties)
    if image.visibility not in pb.ImageVisibility.values():
        fields.refuse("visibility", "give IMAGE_VISIBILITY_PRIVATE or IMAGE_VISIBILITY_PUBLIC")
    fields.check()


class ImageService(Servicer, image_pb2_grpc.ImageServiceServicer):
    def __init__(self, parts: Parts, uploads: Uploads) -> None:
        super().__init__(parts)
        self._uploads = uploads

    CreateImage = forwarded(lambda conductor: conductor.image.CreateImage, _prepare_image, the(IMAGE))
    GetImage = getter(IMAGE)
    ListImages = lister(IMAGE, pb.ListImagesResponse)
    DeleteImage = forwarded(
        lambda conductor: conductor.image.DeleteImage, named(IMAGE), nothing(pb.DeleteImageResponse)
    )

    @served
    async def UploadImageData(self, request_iterator: AsyncIterator[pb.UploadImageDataRequest], call: Call) -> Any:
        uid = await self._uploads.receive(call, request_iterator)
        row = await call.reader.of_uid(IMAGE, uid)
        if row is None:
            raise NotFound(f"image {uid} was deleted while its data was received")
        [image] = await presented(call.reader, IMAGE, [row])
        return image
