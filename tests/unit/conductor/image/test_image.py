from __future__ import annotations

from uuid import uuid4

import pytest

from cirra.image.v1 import image_pb2 as pb
from conductor.image.image import Image
from core.errors import FailedPrecondition, InvalidArgument, NotFound
from core.eventlog.types import CounterAdd, CounterLimit
from tests.unit.conductor.facts import constrained, happened, refused_fields, saved

ID = uuid4()
SHA = "a" * 64


def make(**fields: object) -> Image:
    wanted = pb.Image(display_name="cirros", disk_format=pb.DISK_FORMAT_QCOW2, **fields)  # type: ignore[arg-type]
    image = Image.create(ID, wanted, project_id="p1")
    saved(image)
    return image


def test_an_image_is_private_and_without_data_at_first() -> None:
    image = make()
    assert (image.status, image.visibility) == (pb.IMAGE_STATUS_QUEUED, pb.IMAGE_VISIBILITY_PRIVATE)
    assert image.disk_format_name == "qcow2"
    assert image.visible_to("p1") and not image.visible_to("p2")
    assert make(visibility=pb.IMAGE_VISIBILITY_PUBLIC).visible_to("p2")


def test_bad_images_name_every_field() -> None:
    with pytest.raises(InvalidArgument) as caught:
        Image.create(ID, pb.Image(min_disk_gib=-1, properties={"k": "\n"}), project_id="p1")
    assert refused_fields(caught.value) == {
        "image.display_name",
        "image.disk_format",
        "image.min_disk_gib",
        "image.properties['k']",
    }


def test_the_same_blob_again_changes_nothing_and_another_is_refused() -> None:
    image = make()
    image.activate(SHA, size_bytes=10, virtual_size_bytes=20)
    image.activate(SHA, size_bytes=10, virtual_size_bytes=20)
    assert len(happened(image)) == 1
    assert image.active and (image.sha256, image.size_bytes, image.virtual_size_bytes) == (SHA, 10, 20)
    with pytest.raises(FailedPrecondition) as caught:
        image.activate("b" * 64, size_bytes=10, virtual_size_bytes=20)
    assert caught.value.reason == "IMAGE_ACTIVE"
    with pytest.raises(FailedPrecondition):
        image.reject("IMAGE_TRUNCATED", "")


def test_a_rejected_image_may_be_uploaded_again() -> None:
    image = make()
    image.reject("IMAGE_HAS_BACKING_FILE", "it names /etc/shadow")
    assert image.status == pb.IMAGE_STATUS_REJECTED
    image.activate(SHA, size_bytes=10, virtual_size_bytes=20)
    assert image.active


def test_what_is_announced_of_a_blob_is_checked() -> None:
    with pytest.raises(InvalidArgument) as caught:
        make().activate("ABC", size_bytes=0, virtual_size_bytes=-1)
    assert refused_fields(caught.value) == {"sha256", "size_bytes", "virtual_size_bytes"}


def test_a_deleted_image_takes_no_users() -> None:
    image = make()
    image.delete()
    rows = constrained(image)
    assert CounterAdd("image-users", str(ID), 1) in rows
    assert rows[-1] == CounterLimit("image-users", str(ID), 0)
    with pytest.raises(NotFound):
        image.activate(SHA, size_bytes=1, virtual_size_bytes=1)
