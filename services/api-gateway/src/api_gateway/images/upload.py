"""Receiving image data: whole, checked and durable before the image is active; else nothing of it is left."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from api_gateway.api.call import Call
from api_gateway.api.forward import accept
from api_gateway.images.blobs import Blobs, Upload, is_sha256
from api_gateway.images.errors import CHECKSUM_MISMATCH, TOO_LARGE, TRUNCATED, ImageRefused, TransferFailed
from api_gateway.images.inspect import Inspected, Limits, inspect
from api_gateway.views.image import IMAGE
from cirra.conductor.v1.commands_pb2 import ActivateImageCommand, RejectImageCommand
from cirra.image.v1 import image_pb2 as pb
from core.errors import (
    CirraError,
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
    PermissionDenied,
    ResourceExhausted,
)

FORMATS: Mapping[int, str] = {pb.DISK_FORMAT_QCOW2: "qcow2", pb.DISK_FORMAT_RAW: "raw"}
"""As qemu-img calls them."""

Parts = AsyncIterator[pb.UploadImageDataRequest]


@dataclass(frozen=True, slots=True)
class Uploads:
    """`max_bytes`: of one file."""

    blobs: Blobs
    limits: Limits
    max_bytes: int

    async def receive(self, call: Call, parts: Parts) -> str:
        """Takes the data of one image; its uid. The image is active when it returns.

        Raises TransferFailed (the image stays as it was), ImageRefused (it is REJECTED), FailedPrecondition when it
        has its data already.
        """
        header = await _header(parts)
        image = (await call.reader.find(IMAGE, header.name, field="header.name")).resource
        _check_owner(call, image)
        if image.status == pb.IMAGE_STATUS_ACTIVE:
            return _again(header, image)
        async with self._arriving() as upload:
            await self._write(upload, header, parts)
            inspected = await self._inspect(call, upload, image)
            with _storing():
                await asyncio.to_thread(self.blobs.keep, upload)
        await _activate(call, image, upload, inspected)
        return image.uid

    @asynccontextmanager
    async def _arriving(self) -> AsyncIterator[Upload]:
        """A file for what arrives, gone at the end, also when the caller hangs up while it is being made."""
        begun = asyncio.ensure_future(asyncio.to_thread(self.blobs.begin))
        try:
            with _storing():
                upload = await asyncio.shield(begun)
            yield upload
        finally:
            await asyncio.wait({begun})
            if begun.exception() is None:
                await asyncio.to_thread(begun.result().discard)

    async def _write(self, upload: Upload, header: pb.UploadImageHeader, parts: Parts) -> None:
        """All chunks, on the disk, as long and of the checksum as announced."""
        async for part in parts:
            if part.WhichOneof("part") != "chunk":
                raise InvalidArgument(FieldViolation("header", "given twice: after it, send chunks only"))
            if upload.size + len(part.chunk) > self.max_bytes:
                raise TransferFailed(TOO_LARGE, "chunk", f"more than {self.max_bytes} bytes: give a smaller file")
            if header.size_bytes and upload.size + len(part.chunk) > header.size_bytes:
                raise TransferFailed(
                    TRUNCATED, "header.size_bytes", f"more than the {header.size_bytes} bytes announced arrived"
                )
            with _storing():
                await asyncio.to_thread(upload.write, part.chunk)
        if header.size_bytes and upload.size != header.size_bytes:
            raise TransferFailed(
                TRUNCATED, "header.size_bytes", f"{upload.size} of {header.size_bytes} bytes arrived: upload it again"
            )
        if header.sha256 and upload.sha256 != header.sha256.lower():
            raise TransferFailed(
                CHECKSUM_MISMATCH,
                "header.sha256",
                f"what arrived has the checksum {upload.sha256}: check the file, and upload it again",
            )
        with _storing():
            await asyncio.to_thread(upload.finish)

    async def _inspect(self, call: Call, upload: Upload, image: pb.Image) -> Inspected:
        try:
            with _storing():
                return await inspect(upload.path, FORMATS[image.disk_format], self.limits)
        except ImageRefused as refusal:
            command = RejectImageCommand(image_id=image.uid, reason=refusal.reason, message=refusal.description)
            await accept(call, lambda conductor: conductor.image.RejectImage, command)
            raise


@contextmanager
def _storing() -> Iterator[None]:
    """What the folder of blobs, or a tool that looks at it, fails with, is told as such."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceExhausted(
                "there is no room for the image", reason="IMAGE_STORE_FULL", remedy="ask an operator for more room"
            ) from error
        raise CirraError(
            "the image store failed", reason="IMAGE_STORE_FAILED", remedy="the gateway's log tells the cause"
        ) from error


async def _header(parts: Parts) -> pb.UploadImageHeader:
    """The first message. Raises InvalidArgument."""
    first = await anext(parts, None)
    if first is None or first.WhichOneof("part") != "header":
        raise InvalidArgument(FieldViolation("header", "send it first, with the image's name"))
    header = first.header
    if header.size_bytes < 0:
        raise InvalidArgument(FieldViolation("header.size_bytes", "give the number of bytes, or 0"))
    if header.sha256 and not is_sha256(header.sha256.lower()):
        raise InvalidArgument(FieldViolation("header.sha256", "give 64 hexadecimal digits, or none"))
    return header


def _check_owner(call: Call, image: pb.Image) -> None:
    """A public image is seen by all, and filled by its project."""
    if not call.reader.is_admin and image.project_id != call.reader.principal.project_id:
        raise PermissionDenied(f"image {image.uid} is another project's", remedy="create an image of your own")


def _again(header: pb.UploadImageHeader, image: pb.Image) -> str:
    """The answer to an upload got lost, and it comes again: it has been done."""
    if header.sha256.lower() == image.sha256:
        return image.uid
    raise FailedPrecondition(
        f"image {image.uid} has its data already, and that never changes",
        reason="IMAGE_ACTIVE",
        remedy="create another image",
    )


async def _activate(call: Call, image: pb.Image, upload: Upload, inspected: Inspected) -> None:
    command = ActivateImageCommand(
        image_id=image.uid,
        sha256=upload.sha256,
        size_bytes=upload.size,
        virtual_size_bytes=inspected.virtual_size_bytes,
    )
    await accept(call, lambda conductor: conductor.image.ActivateImage, command)
