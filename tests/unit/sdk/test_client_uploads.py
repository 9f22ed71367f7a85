"""Uploads of images, and what may go wrong with them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from grpc import StatusCode

from cirra.image.v1 import image_pb2 as image
from cirra_sdk import AsyncClient, errors
from tests.unit.sdk.fake_gateway import GONE, Failure, FakeGateway


async def test_uploads_a_file_with_its_checksum(gateway: FakeGateway, client: AsyncClient, tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    (tmp_path / "disk").write_bytes(data)
    gateway.answers("UploadImageData", image.Image(name="images/1", status=image.IMAGE_STATUS_ACTIVE))
    progress: list[tuple[int, int]] = []

    done = await client.images.upload("images/1", tmp_path / "disk", lambda *told: progress.append(told))

    assert done.status == image.IMAGE_STATUS_ACTIVE
    [[header, *chunks]] = gateway.requests("UploadImageData")
    assert header.header == image.UploadImageHeader(
        name="images/1", size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest()
    )
    assert b"".join(part.chunk for part in chunks) == data
    assert max(len(part.chunk) for part in chunks) <= 1024 * 1024
    assert progress[-1] == (len(data), len(data)) and len(progress) == len(chunks)


async def test_an_upload_that_was_cut_off_is_sent_again_whole(
    gateway: FakeGateway, client: AsyncClient, tmp_path: Path
) -> None:
    (tmp_path / "disk").write_bytes(b"x" * 2_500_000)
    gateway.fails("UploadImageData", GONE, Failure(StatusCode.UNAUTHENTICATED, "expired", "TOKEN_EXPIRED"))
    gateway.answers("UploadImageData", image.Image(status=image.IMAGE_STATUS_ACTIVE))
    assert (await client.images.upload("images/1", tmp_path / "disk")).status == image.IMAGE_STATUS_ACTIVE
    sizes = [sum(len(part.chunk) for part in parts) for parts in gateway.requests("UploadImageData")]
    assert sizes == [2_500_000] * 3


async def test_an_upload_whose_answer_was_lost_has_succeeded(
    gateway: FakeGateway, client: AsyncClient, tmp_path: Path
) -> None:
    (tmp_path / "disk").write_bytes(b"mine")
    there = image.Image(status=image.IMAGE_STATUS_ACTIVE, sha256=hashlib.sha256(b"mine").hexdigest())
    gateway.answers("GetImage", there)
    refused = Failure(StatusCode.FAILED_PRECONDITION, "it has its data", "IMAGE_NOT_QUEUED")
    gateway.fails("UploadImageData", GONE, refused, refused)
    assert await client.images.upload("images/1", tmp_path / "disk") == there
    (tmp_path / "disk").write_bytes(b"other")
    with pytest.raises(errors.FailedPrecondition):
        await client.images.upload("images/1", tmp_path / "disk")


async def test_what_goes_wrong_on_our_side_of_an_upload_is_told(
    gateway: FakeGateway, client: AsyncClient, tmp_path: Path
) -> None:
    (tmp_path / "disk").write_bytes(b"x")
    gateway.answers("UploadImageData", image.Image())

    def fail(sent: int, total: int) -> None:
        raise ValueError("no room for a bar")

    with pytest.raises(ValueError, match="no room for a bar"):
        await client.images.upload("images/1", tmp_path / "disk", fail)


async def test_an_image_that_is_refused(gateway: FakeGateway, client: AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"QFI")
    gateway.fails("UploadImageData", Failure(StatusCode.INVALID_ARGUMENT, "it refers to …", "IMAGE_HAS_BACKING_FILE"))
    with pytest.raises(errors.InvalidArgument) as refused:
        await client.images.upload("images/1", tmp_path / "disk")
    assert refused.value.reason == "IMAGE_HAS_BACKING_FILE"
