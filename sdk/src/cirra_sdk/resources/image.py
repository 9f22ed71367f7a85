"""Images: announced first, then filled."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Mapping
from io import BufferedReader
from pathlib import Path
from types import ModuleType
from typing import ClassVar

from cirra.image.v1 import image_pb2 as pb
from cirra.image.v1.image_pb2_grpc import ImageServiceStub
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

        Raises InvalidArgument when the cloud refuses the data, with why; OSError when the file can't be read.
        """
        file = await asyncio.to_thread(open, path, "rb")
        try:
            sha256, size_bytes = await asyncio.to_thread(_digest, file)
            header = pb.UploadImageHeader(name=name_of(image), size_bytes=size_bytes, sha256=sha256)
            done: pb.Image = await self._transport.upload(
                self._stub.UploadImageData, _parts(header, file, progress or _silent)
            )
            return done
        finally:
            await asyncio.to_thread(file.close)


def _digest(file: BufferedReader) -> tuple[str, int]:
    """SHA-256 in hexadecimal, and the size in octets; the file is then at its beginning again."""
    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    size_bytes = file.tell()
    file.seek(0)
    return sha256, size_bytes


async def _parts(
    header: pb.UploadImageHeader, file: BufferedReader, progress: Progress
) -> AsyncGenerator[pb.UploadImageDataRequest, None]:
    yield pb.UploadImageDataRequest(header=header)
    sent = 0
    while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
        yield pb.UploadImageDataRequest(chunk=chunk)
        sent += len(chunk)
        progress(sent, header.size_bytes)


def _silent(sent: int, total: int) -> None:
    """Nobody wants to know."""
