"""Image data that can't be: what is hostile is rejected for good, what came wrongly may come again, no file is left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from cirra.image.v1 import image_pb2 as pb
from cirra_sdk.errors import CirraApiError, FailedPrecondition, InvalidArgument, NotFound
from tests.harness import disks
from tests.harness.cloud import Cloud, Parts, Tenant
from tests.harness.leftovers import all_given_back, nothing_left
from tests.integration.acceptance.refusals import check_refusal, refused
from tests.integration.acceptance.uploads import broken_off_upload, chunks, header, upload

pytestmark = pytest.mark.asyncio(loop_scope="module")


def _cut_off(path: Path) -> bytes:
    """As announced, but a part of a disk: its tables point beyond its end."""
    return disks.qcow2(path)[:-600_000]


def _raw(path: Path) -> bytes:
    return b"no qcow2 " * 1000


def _empty(path: Path) -> bytes:
    return b""


@pytest.mark.parametrize(
    ("reason", "make"),
    [
        ("IMAGE_HAS_BACKING_FILE", disks.with_backing_file),
        ("IMAGE_HAS_DATA_FILE", disks.with_data_file),
        ("IMAGE_TRUNCATED", _cut_off),
        ("IMAGE_FORMAT_MISMATCH", disks.vmdk),
        ("IMAGE_FORMAT_MISMATCH", _raw),
        ("IMAGE_FORMAT_MISMATCH", _empty),
    ],
)
async def test_data_that_can_be_no_image(
    cloud: Cloud, tenant: Tenant, tmp_path: Path, reason: str, make: Callable[[Path], bytes]
) -> None:
    data = await asyncio.to_thread(make, tmp_path / "disk")
    image = await tenant.client.images.create("hostile")
    path = tmp_path / "upload"
    path.write_bytes(data)
    async with all_given_back(cloud):
        with pytest.raises(CirraApiError) as raised:
            await tenant.client.images.upload(image, path)
    check_refusal(raised.value, InvalidArgument, reason, "chunk")
    tenant.catch_up()
    image = await tenant.client.images.get(image)
    assert image.status == pb.IMAGE_STATUS_REJECTED
    assert image.status_reason.startswith(f"{reason}: ")
    recorded = [event.type.rpartition(".")[2] async for event in tenant.client.events.list(resource=image)]
    assert recorded == ["ImageCreated", "ImageRejected"]


async def test_a_rejected_image_boots_nothing_until_it_has_data(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    image = await tenant.client.images.create("second try")
    with pytest.raises(InvalidArgument):
        await upload(tenant, header(image, b"x"), [b"x"])
    async with refused(cloud, FailedPrecondition, "IMAGE_NOT_ACTIVE", says="upload its data first"):
        await tenant.create(parts, image=image)
    await tenant.client.images.upload(image, parts.disk)
    await tenant.boot(parts, image=image)


async def test_data_that_came_wrongly_may_come_again(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    data = parts.disk.read_bytes()
    image = await tenant.client.images.create("picture")
    right = header(image, data)
    wrong_sum = pb.UploadImageHeader(name=image.name, size_bytes=len(data), sha256="0" * 64)
    no_sum = pb.UploadImageHeader(name=image.name, sha256="xyz")
    for reason, field, announced, sent in (
        ("IMAGE_TRUNCATED", "header.size_bytes", right, chunks(data)[:-1]),
        ("IMAGE_TRUNCATED", "header.size_bytes", right, []),
        ("IMAGE_TRUNCATED", "header.size_bytes", right, [*chunks(data), b"more"]),
        ("IMAGE_CHECKSUM_MISMATCH", "header.sha256", wrong_sum, chunks(data)),
        ("IMAGE_CHECKSUM_MISMATCH", "header.sha256", right, [b"?" + data[1:]]),
        ("INVALID_ARGUMENT", "header.sha256", no_sum, chunks(data)),
        ("INVALID_ARGUMENT", "header", None, chunks(data)),
        ("INVALID_ARGUMENT", "header.size_bytes", pb.UploadImageHeader(name=image.name, size_bytes=-1), [data]),
    ):
        async with refused(cloud, InvalidArgument, reason, field):
            await upload(tenant, announced, sent)
    assert (await tenant.client.images.get(image)).status == pb.IMAGE_STATUS_QUEUED
    assert (await upload(tenant, right, chunks(data))).status == pb.IMAGE_STATUS_ACTIVE


async def test_a_connection_that_breaks_off(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    data = parts.disk.read_bytes()
    image = await tenant.client.images.create("picture")
    async with all_given_back(cloud):
        await broken_off_upload(tenant, header(image, data), chunks(data)[:2])
    assert (await tenant.client.images.get(image)).status == pb.IMAGE_STATUS_QUEUED
    assert (await upload(tenant, header(image, data), chunks(data))).status == pb.IMAGE_STATUS_ACTIVE


async def test_data_never_changes(cloud: Cloud, tenant: Tenant, parts: Parts, tmp_path: Path) -> None:
    other = await asyncio.to_thread(disks.qcow2, tmp_path / "other", size_mib=16)
    async with refused(cloud, FailedPrecondition, "IMAGE_ACTIVE", says="create another image"):
        await upload(tenant, header(parts.image, other), chunks(other))
    async with nothing_left(cloud):  # whose answer was lost
        assert await tenant.client.images.upload(parts.image, parts.disk) == parts.image


async def test_two_uploads_at_once_through_two_gateways(
    cloud: Cloud, tenant: Tenant, parts: Parts, tmp_path: Path
) -> None:
    other = await asyncio.to_thread(disks.qcow2, tmp_path / "other", size_mib=16)
    image = await tenant.client.images.create("contended")
    tenant.catch_up()
    results = await asyncio.gather(
        *(
            upload(tenant, header(image, data), chunks(data), gateway=gateway)
            for gateway, data in enumerate((parts.disk.read_bytes(), other))
        ),
        return_exceptions=True,
    )
    [active] = [result for result in results if isinstance(result, pb.Image)]
    [error] = [result for result in results if isinstance(result, CirraApiError)]
    check_refusal(error, FailedPrecondition, "IMAGE_ACTIVE", says="create another image")
    tenant.catch_up()
    assert (await tenant.client.images.get(image)).sha256 == active.sha256


async def test_an_image_that_is_not_there(cloud: Cloud, tenant: Tenant, parts: Parts) -> None:
    gone = await tenant.client.images.create("gone")
    await tenant.client.images.delete(gone)
    for image in (gone, "nothing"):
        async with refused(cloud, NotFound, "NOT_FOUND", "header.name"):
            await tenant.client.images.upload(image, parts.disk)


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        ("image.disk_format", {"disk_format": pb.DISK_FORMAT_UNSPECIFIED}),
        ("image.min_disk_gib", {"min_disk_gib": -1}),
        ("image.min_memory_mib", {"min_memory_mib": 2**31 - 1}),
        ("image.properties['']", {"properties": {"": "x"}}),
    ],
)
async def test_an_image_that_can_not_be(cloud: Cloud, tenant: Tenant, field: str, wanted: dict[str, object]) -> None:
    async with refused(cloud, InvalidArgument, "INVALID_ARGUMENT", field):
        await tenant.client.images.create("picture", **wanted)  # type: ignore[arg-type]
