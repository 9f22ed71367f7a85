"""Image data: received whole, inspected as hostile, durable before it is active, handed out to holders of tickets."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from cirra.image.v1 import image_pb2 as pb
from core.errors import CirraError, FailedPrecondition, InvalidArgument
from tests.harness import disks
from tests.integration.api_gateway.world import Client, Gateway, World, eventually, new_project

CHUNK = 256 * 1024


async def _parts(name: str, data: bytes, size: int, sha256: str) -> AsyncIterator[pb.UploadImageDataRequest]:
    yield pb.UploadImageDataRequest(header=pb.UploadImageHeader(name=name, size_bytes=size, sha256=sha256))
    for begin in range(0, len(data), CHUNK):
        yield pb.UploadImageDataRequest(chunk=data[begin : begin + CHUNK])


async def _upload(client: Client, name: str, data: bytes, *, size: int = 0, sha256: str = "") -> pb.Image:
    call = client.image.UploadImageData(_parts(name, data, size, sha256), metadata=client.metadata)
    image: pb.Image = await call
    return image


async def _create(client: Client, disk_format: pb.DiskFormat.ValueType = pb.DISK_FORMAT_QCOW2) -> pb.Image:
    request = pb.CreateImageRequest(image=pb.Image(display_name="debian", disk_format=disk_format))
    image: pb.Image = await client.call(client.image.CreateImage, request)
    return image


async def _get(client: Client, uid: str) -> pb.Image:
    image: pb.Image = await client.call(client.image.GetImage, pb.GetImageRequest(name=uid))
    return image


def _files(world: World) -> list[str]:
    """What is in the blob directory, but the lock."""
    return sorted(path.name for path in world.blob_folder.rglob("*") if path.is_file() and path.name != "lock")


@pytest.fixture
async def alice(world: World, gateway: Gateway) -> Client:
    world.user("alice", new_project())
    return await gateway.login("alice")


async def test_an_image_is_active_and_durable(world: World, alice: Client, tmp_path: Path) -> None:
    data = disks.qcow2(tmp_path / "disk", size_mib=16)
    sha256 = hashlib.sha256(data).hexdigest()
    image = await _create(alice)
    assert image.status == pb.IMAGE_STATUS_QUEUED
    active = await _upload(alice, "debian", data, size=len(data), sha256=sha256)
    assert active.status == pb.IMAGE_STATUS_ACTIVE
    assert (active.sha256, active.size_bytes, active.virtual_size_bytes) == (sha256, len(data), 16 * disks.MIB)
    blob = world.blob_folder / "blobs" / sha256
    assert blob.read_bytes() == data
    assert blob.stat().st_mode & 0o777 == 0o440
    assert _files(world) == [sha256]
    # The answer got lost, the upload comes again: done. Other data: never.
    assert (await _upload(alice, image.uid, data, sha256=sha256)).uid == image.uid
    with pytest.raises(FailedPrecondition):
        await _upload(alice, image.uid, b"other")


async def test_a_transfer_that_fails_leaves_nothing_and_may_be_repeated(
    world: World, alice: Client, tmp_path: Path
) -> None:
    data = disks.qcow2(tmp_path / "disk")
    image = await _create(alice)
    for arrived, size, sha256, reason in (
        (data[:-CHUNK], len(data), "", "IMAGE_TRUNCATED"),
        (data + b"more", len(data), "", "IMAGE_TRUNCATED"),
        (data, len(data), hashlib.sha256(b"another").hexdigest(), "IMAGE_CHECKSUM_MISMATCH"),
    ):
        with pytest.raises(InvalidArgument) as raised:
            await _upload(alice, image.uid, arrived, size=size, sha256=sha256)
        assert raised.value.reason == reason
        assert raised.value.violations
        assert (await _get(alice, image.uid)).status == pb.IMAGE_STATUS_QUEUED
        assert _files(world) == []
    assert (await _upload(alice, image.uid, data, size=len(data))).status == pb.IMAGE_STATUS_ACTIVE


@pytest.mark.parametrize(
    ("make", "declared", "reason"),
    [
        (disks.with_backing_file, pb.DISK_FORMAT_QCOW2, "IMAGE_HAS_BACKING_FILE"),
        (disks.with_data_file, pb.DISK_FORMAT_QCOW2, "IMAGE_HAS_DATA_FILE"),
        (disks.vmdk, pb.DISK_FORMAT_QCOW2, "IMAGE_FORMAT_MISMATCH"),
        (disks.vmdk, pb.DISK_FORMAT_RAW, "IMAGE_FORMAT_MISMATCH"),
        (disks.qcow2, pb.DISK_FORMAT_RAW, "IMAGE_FORMAT_MISMATCH"),
        (lambda path: disks.qcow2(path)[:-CHUNK], pb.DISK_FORMAT_QCOW2, "IMAGE_TRUNCATED"),
        (lambda path: disks.patched(disks.qcow2(path), 24, "Q", 2**60), pb.DISK_FORMAT_QCOW2, "IMAGE_TOO_LARGE"),
    ],
)
async def test_hostile_data_is_refused(
    world: World, alice: Client, tmp_path: Path, make: Any, declared: pb.DiskFormat.ValueType, reason: str
) -> None:
    image = await _create(alice, declared)
    with pytest.raises(InvalidArgument) as raised:
        await _upload(alice, image.uid, make(tmp_path / "disk"))
    assert raised.value.reason == reason
    rejected = await _get(alice, image.uid)
    assert rejected.status == pb.IMAGE_STATUS_REJECTED
    assert rejected.status_reason.startswith(reason)
    assert _files(world) == []
    if declared == pb.DISK_FORMAT_RAW:
        assert (await _upload(alice, image.uid, b"\0" * 4096)).status == pb.IMAGE_STATUS_ACTIVE


async def test_an_upload_that_breaks_off_leaves_nothing(world: World, alice: Client) -> None:
    image = await _create(alice, pb.DISK_FORMAT_RAW)

    call = alice.image.UploadImageData(metadata=alice.metadata)
    await call.write(pb.UploadImageDataRequest(header=pb.UploadImageHeader(name=image.uid)))
    await call.write(pb.UploadImageDataRequest(chunk=b"\0" * CHUNK))
    await eventually(lambda: len(_files(world)) == 1)
    call.cancel()
    await eventually(lambda: not _files(world))
    assert (await _upload(alice, image.uid, b"\0" * 512)).virtual_size_bytes == 512


async def test_a_store_that_fails_is_told_as_such(world: World, alice: Client) -> None:
    image = await _create(alice, pb.DISK_FORMAT_RAW)
    uploads = world.blob_folder / "uploads"
    uploads.rmdir()
    with pytest.raises(CirraError) as raised:
        await _upload(alice, image.uid, b"\0" * 512)
    assert raised.value.reason == "IMAGE_STORE_FAILED" and not raised.value.retryable
    uploads.mkdir()
    assert (await _upload(alice, image.uid, b"\0" * 512)).status == pb.IMAGE_STATUS_ACTIVE


def _ticket(
    key: bytes, sha256: str, *, lifetime: timedelta = timedelta(minutes=1), audience: str = "image-download"
) -> str:
    claims = {"aud": audience, "host": "host-1", "sha256": sha256, "exp": datetime.now(UTC) + lifetime}
    return jwt.encode(claims, key, algorithm="HS256")


async def test_downloads_are_by_range_and_by_ticket(world: World, gateway: Gateway, alice: Client) -> None:
    data = bytes(range(256)) * 4096
    image = await _create(alice, pb.DISK_FORMAT_RAW)
    sha256 = (await _upload(alice, image.uid, data)).sha256
    trusted = ssl.create_default_context(cadata=world.authority.certificate_pem.decode())
    async with httpx.AsyncClient(base_url=f"https://{gateway.http}", verify=trusted) as http:
        url = f"/images/{sha256}"
        good = {"authorization": f"Bearer {_ticket(world.ticket_key, sha256)}"}
        whole = await http.get(url, headers=good)
        assert (whole.status_code, whole.content) == (200, data)
        assert whole.headers["etag"] == f'"{sha256}"'
        assert whole.headers["accept-ranges"] == "bytes"
        part = await http.get(url, headers={**good, "range": "bytes=1000-1999", "if-range": f'"{sha256}"'})
        assert (part.status_code, part.content) == (206, data[1000:2000])
        assert part.headers["content-range"] == f"bytes 1000-1999/{len(data)}"
        rest = await http.get(url, headers={**good, "range": f"bytes={len(data) - 10}-"})
        assert (rest.status_code, rest.content) == (206, data[-10:])
        beyond = await http.get(url, headers={**good, "range": f"bytes={len(data)}-"})
        assert beyond.status_code == 416
        for ticket in (
            "none",
            _ticket(b"x" * 32, sha256),
            _ticket(world.ticket_key, "0" * 64),
            _ticket(world.ticket_key, sha256, lifetime=timedelta(seconds=-1)),
            _ticket(world.ticket_key, sha256, audience="console"),
        ):
            refused = await http.get(url, headers={"authorization": f"Bearer {ticket}"})
            assert refused.status_code == 401
            assert data[:100] not in refused.content
        assert (await http.get(url)).status_code == 401
        missing = "1" * 64
        headers = {"authorization": f"Bearer {_ticket(world.ticket_key, missing)}"}
        assert (await http.get(f"/images/{missing}", headers=headers)).status_code == 404
