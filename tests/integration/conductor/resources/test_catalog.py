"""Flavors, key pairs, images."""

from __future__ import annotations

from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cirra.compute.v1 import compute_pb2 as compute
from cirra.compute.v1 import events_pb2 as compute_events
from cirra.conductor.v1 import commands_pb2
from cirra.conductor.v1.commands_pb2 import Accepted
from cirra.identity.v1 import identity_pb2
from cirra.identity.v1.identity_pb2 import ROLE_MEMBER
from cirra.image.v1 import image_pb2 as pb
from conductor.compute.instance import Instance
from conductor.identity.project import Project
from conductor.identity.user import User as UserAggregate
from conductor.image.image import Image
from core.errors import (
    AlreadyExists,
    CirraError,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)
from core.ids import uuid7
from tests.integration.conductor.resources.world import User, World, answers, errors, user

KEY = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
SHA = "a" * 64


async def make_key_pair(world: World, caller: User, name: str, replica: int = 0) -> Accepted:
    wanted = compute.KeyPair(display_name=name, public_key=KEY)
    return await caller.call(
        world.replica(replica).catalog.CreateKeyPair, compute.CreateKeyPairRequest(key_pair=wanted)
    )


async def make_image(world: World, caller: User, **fields: object) -> Accepted:
    wanted = pb.Image(display_name="cirros", disk_format=pb.DISK_FORMAT_QCOW2, **fields)  # type: ignore[arg-type]
    return await caller.call(world.first.image.CreateImage, pb.CreateImageRequest(image=wanted))


async def test_flavor_names_are_unique_also_at_once(world: World) -> None:
    results = await world.at_once(10, lambda n: world.make_flavor(replica=n))
    assert len(answers(results)) == 1
    for error in errors(results):
        assert isinstance(error, AlreadyExists)
        assert "a flavor named 'm1.small' exists already; choose another name" in error.message
    [made] = answers(results)
    await world.admin.call(world.first.catalog.DeleteFlavor, compute.DeleteFlavorRequest(name=made.name))
    assert await world.make_flavor()


async def test_key_pair_names_are_unique_for_each_user(world: World) -> None:
    other = user(world.project_id, ROLE_MEMBER)
    mine = await make_key_pair(world, world.member, "laptop")
    assert (await make_key_pair(world, other, "laptop")).uid != mine.uid
    with pytest.raises(AlreadyExists, match="a key pair named 'laptop'"):
        await make_key_pair(world, world.member, "laptop")
    with pytest.raises(NotFound):
        await other.call(world.first.catalog.DeleteKeyPair, compute.DeleteKeyPairRequest(name=mine.name))
    await world.member.call(world.first.catalog.DeleteKeyPair, compute.DeleteKeyPairRequest(name=mine.name))
    assert await make_key_pair(world, world.member, "laptop")


async def test_the_quota_of_key_pairs_is_exact_under_concurrency(world: World) -> None:
    project = Project.create(uuid7(), "small", limits={"key_pairs": 5})
    await world.repository.save(project)
    member = user(str(project.id), ROLE_MEMBER)
    results = await world.at_once(24, lambda n: make_key_pair(world, member, f"key-{n}", replica=n))
    assert len(answers(results)) == 5
    assert all(isinstance(error, ResourceExhausted) for error in errors(results))
    assert (await world.log.counter("quota/key_pairs", str(project.id))).used == 5


async def test_a_user_with_key_pairs_stays(world: World) -> None:
    ada = UserAggregate.create(uuid7(), "ada", b"hash")
    await world.repository.save(ada)
    caller = User(identity_pb2.Principal(user_id=str(ada.id), project_id=world.project_id, roles=[ROLE_MEMBER]))
    made = await make_key_pair(world, caller, "laptop")
    deletion = identity_pb2.DeleteUserRequest(name=str(ada.id))
    with pytest.raises(FailedPrecondition, match="1 key pairs") as caught:
        await world.admin.call(world.first.identity.DeleteUser, deletion)
    assert caught.value.reason == "USER_IN_USE"
    await world.admin.call(world.first.catalog.DeleteKeyPair, compute.DeleteKeyPairRequest(name=made.uid))
    await world.admin.call(world.first.identity.DeleteUser, deletion)
    with pytest.raises(NotFound):
        await make_key_pair(world, caller, "laptop")


async def test_an_image_from_announcement_to_blob(world: World) -> None:
    made = await make_image(world, world.member)
    activation = commands_pb2.ActivateImageCommand(image_id=made.uid, sha256=SHA, size_bytes=10, virtual_size_bytes=20)
    first = await world.member.call(world.first.image.ActivateImage, activation)
    again = await world.member.call(world.second.image.ActivateImage, activation)
    assert first.position <= again.position
    rejection = commands_pb2.RejectImageCommand(image_id=made.uid, reason="IMAGE_TRUNCATED", message="short")
    with pytest.raises(FailedPrecondition):
        await world.member.call(world.first.image.RejectImage, rejection)
    image = await world.repository.load(Image, UUID(made.uid))
    assert image.active and image.sha256 == SHA


async def test_only_administrators_make_images_public(world: World) -> None:
    with pytest.raises(PermissionDenied, match=r"image\.visibility"):
        await make_image(world, world.member, visibility=pb.IMAGE_VISIBILITY_PUBLIC)
    assert await make_image(world, world.admin, visibility=pb.IMAGE_VISIBILITY_PUBLIC)


async def test_another_project_s_image_is_not_there(world: World) -> None:
    made = await make_image(world, world.admin, visibility=pb.IMAGE_VISIBILITY_PUBLIC)
    stranger = user(str(uuid7()), ROLE_MEMBER)
    with pytest.raises(NotFound):
        await stranger.call(world.first.image.DeleteImage, pb.DeleteImageRequest(name=made.name))


async def use_image(world: World, image_id: str, replica: int = 0) -> Instance:
    """An instance of the image, as the append that accepts it has it."""
    instance = Instance.new(uuid7())
    instance.record(compute_events.InstanceCreated(project_id=world.project_id, image_id=image_id))
    await world.replica(replica).repository.save(instance)
    return instance


async def test_an_image_and_its_users_exclude_each_other(world: World) -> None:
    """Instances and a deletion at once: either it is used and stays, or it is gone and takes none."""
    for _ in range(5):
        made = await make_image(world, world.member)
        deletion = pb.DeleteImageRequest(name=made.name)

        async def one(number: int, uid: str = made.uid, deletion: pb.DeleteImageRequest = deletion) -> object:
            if number == 2:
                return await world.member.call(world.second.image.DeleteImage, deletion)
            return await use_image(world, uid, number)

        results = await world.at_once(5, one)
        used = (await world.log.counter("image-users", made.uid)).used
        image = await world.repository.load(Image, UUID(made.uid))
        assert image.deleted == (used == 0)
        assert used in (0, 4)
        refused = errors(results)
        assert len(refused) == (4 if image.deleted else 1)
        assert all(isinstance(error, CirraError) for error in refused)
        if not image.deleted:
            assert [getattr(error, "reason", "") for error in refused] == ["IMAGE_IN_USE"]
