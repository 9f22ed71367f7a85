"""What is left of an upload whose caller hangs up: nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from api_gateway.images.blobs import Blobs, Upload
from api_gateway.images.inspect import Limits
from api_gateway.images.upload import Uploads
from cirra.image.v1 import image_pb2 as pb

LIMITS = Limits(virtual_size_bytes=1 << 30, memory_bytes=1 << 30, cpu_s=10)


class SlowBlobs(Blobs):
    """Tells when a file is being made, and makes it once it may."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.beginning, self.may_begin, self.begun = threading.Event(), threading.Event(), threading.Event()

    def begin(self) -> Upload:
        self.beginning.set()
        assert self.may_begin.wait(60)
        try:
            return super().begin()
        finally:
            self.begun.set()


class Reader:
    is_admin = True

    async def find(self, view: Any, name: str, *, field: str) -> Any:
        return SimpleNamespace(resource=pb.Image(uid=name, status=pb.IMAGE_STATUS_QUEUED))


async def parts(ended: asyncio.Event) -> AsyncIterator[pb.UploadImageDataRequest]:
    yield pb.UploadImageDataRequest(header=pb.UploadImageHeader(name="i"))
    yield pb.UploadImageDataRequest(chunk=b"data")
    await ended.wait()


@pytest.mark.parametrize("moment", ["while the file is made", "between chunks"])
async def test_a_caller_that_hangs_up_leaves_no_file(tmp_path: Path, moment: str) -> None:
    blobs = SlowBlobs(tmp_path)
    if moment == "between chunks":
        blobs.may_begin.set()
    call: Any = SimpleNamespace(reader=Reader())
    receiving = asyncio.create_task(Uploads(blobs, LIMITS, 1 << 20).receive(call, parts(asyncio.Event())))
    assert await asyncio.to_thread(blobs.beginning.wait, 60)
    if moment == "between chunks":
        async with asyncio.timeout(60):
            while not list((tmp_path / "uploads").iterdir()):  # noqa: ASYNC110 - a folder wakes nobody
                await asyncio.sleep(0.01)
    receiving.cancel()
    await asyncio.sleep(0)
    blobs.may_begin.set()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    assert await asyncio.to_thread(blobs.begun.wait, 60)
    assert list((tmp_path / "uploads").iterdir()) == []
