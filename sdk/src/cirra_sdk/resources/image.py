"""Images: announced first, then filled."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from io import BufferedReader
from pathlib import Path
from types import ModuleType
from typing import ClassVar

from cirra.image.v1 import image_pb2 as pb
from cirra.image.v1.image_pb2_grpc import ImageServiceStub
from cirra_sdk.errors import FailedPrecondition
from cirra_sdk.resources.collection import Collection, name_of, request_id_or_new

CHUNK_BYTES = 1024 * 1024

Progress = Callable[[int, int], None]
"""(octets sent, octets in all)."""


class Images(Collection[pb.Image]):
    """Disks that instances start from."""

    messages: ClassVar[ModuleType] = pb
    stub_class = ImageServiceStub
    kind = "Image"

    async def create(
        self,
        display_name: str,
        *,
        disk_format: pb.DiskFormat.ValueType = pb.DISK_FORMAT_QCOW2,
        min_disk_gib: int = 0,
        min_memory_mib: int = 0,
        properties: Mapping[str, str] | None = None,
        public: bool = False,
        request_id: str | None = None,
    ) -> pb.Image:
        """Announces an image; `upload` gives it its data. *public*: every project may boot it."""
        image = pb.Image(
            display_name=display_name,
            disk_format=disk_format,
            min_disk_gib=min_disk_gib,
            min_memory_mib=min_memory_mib,
            properties=dict(properties or {}),
            visibility=pb.IMAGE_VISIBILITY_PUBLIC if public else pb.IMAGE_VISIBILITY_PRIVATE,
        )
        made: pb.Image = await self._call("CreateImage", image=image, request_id=request_id_or_new(request_id))
        return made

    async def upload(self, image: pb.Image | str, path: Path | str, progress: Progress | None = None) -> pb.Image:
        """Sends the file and its checksum. The image is durable, checked and ACTIVE when this returns.

        After an interruption it is sent again, from the start; that it was there already is no error.
        Raises InvalidArgument when the cloud refuses the data, with why; OSError when the file can't be read.
        """
        file = await asyncio.to_thread(open, path, "rb")
        try:
            sha256, size_bytes = await asyncio.to_thread(_digest, file)
            header = pb.UploadImageHeader(name=name_of(image), size_bytes=size_bytes, sha256=sha256)
            return await self._upload(header, file, progress or _silent)
        finally:
            await asyncio.to_thread(file.close)

    async def _upload(self, header: pb.UploadImageHeader, file: BufferedReader, progress: Progress) -> pb.Image:
        try:
            done: pb.Image = await self._transport.upload(
                self._stub.UploadImageData, lambda: _parts(header, file, progress)
            )
        except FailedPrecondition:
            # Perhaps it was us, and only the answer was lost.
            present = await self.get(header.name)
            if present.status != pb.IMAGE_STATUS_ACTIVE or present.sha256 != header.sha256:
                raise
            return present
        return done


def _digest(file: BufferedReader) -> tuple[str, int]:
    """SHA-256 in hexadecimal, and the size in octets."""
    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return sha256, file.tell()


async def _parts(
    header: pb.UploadImageHeader, file: BufferedReader, progress: Progress
) -> AsyncGenerator[pb.UploadImageDataRequest, None]:
    yield pb.UploadImageDataRequest(header=header)
    sent = 0
    # By offset: a try that was cut off may still be reading when the next one begins.
    while chunk := await asyncio.to_thread(os.pread, file.fileno(), CHUNK_BYTES, sent):
        yield pb.UploadImageDataRequest(chunk=chunk)
        sent += len(chunk)
        progress(sent, header.size_bytes)


def _silent(sent: int, total: int) -> None:
    """Nobody wants to know."""
