from __future__ import annotations

from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cirra.compute.v1 import compute_pb2 as pb
from conductor.compute.flavor import Flavor
from conductor.compute.key_pair import KeyPair
from core.errors import InvalidArgument, NotFound
from core.eventlog.types import CounterAdd, UniqueClaim, UniqueRelease
from tests.unit.conductor.facts import constrained, refused_fields, saved

ID = uuid4()
KEY = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def test_a_flavor_holds_its_name_until_it_is_deleted() -> None:
    wanted = pb.Flavor(display_name="m1.small", vcpus=1, memory_mib=512, disk_gib=5, extra_specs={"hw:x": "y"})
    flavor = Flavor.create(ID, wanted)
    assert constrained(flavor) == [UniqueClaim("flavor-name", "m1.small", str(ID))]
    assert flavor.resource_name == f"flavors/{ID}"
    assert (flavor.summary.vcpus, dict(flavor.summary.extra_specs)) == (1, {"hw:x": "y"})
    saved(flavor)
    flavor.delete()
    assert constrained(flavor) == [UniqueRelease("flavor-name", "m1.small", str(ID))]
    with pytest.raises(NotFound):
        flavor.delete()


def test_bad_flavors_name_every_field() -> None:
    with pytest.raises(InvalidArgument) as caught:
        Flavor.create(ID, pb.Flavor(display_name=" ", vcpus=0, memory_mib=-1, disk_gib=0, extra_specs={"": "x"}))
    assert refused_fields(caught.value) == {
        "flavor.display_name",
        "flavor.vcpus",
        "flavor.memory_mib",
        "flavor.disk_gib",
        "flavor.extra_specs['']",
    }


def test_a_key_pair_s_name_is_its_user_s_and_counts_for_its_project() -> None:
    key_pair = KeyPair.create(ID, pb.KeyPair(display_name="laptop", public_key=KEY), project_id="p1", user_id="u1")
    assert constrained(key_pair) == [
        UniqueClaim("key-pair-name", "u1/laptop", str(ID)),
        CounterAdd("quota/key_pairs", "p1", 1),
        CounterAdd("key-pairs-of-user", "u1", 1),
    ]
    assert (key_pair.public_key, key_pair.key_type) == (KEY, "ssh-ed25519")
    saved(key_pair)
    key_pair.delete()
    assert constrained(key_pair) == [
        UniqueRelease("key-pair-name", "u1/laptop", str(ID)),
        CounterAdd("quota/key_pairs", "p1", -1),
        CounterAdd("key-pairs-of-user", "u1", -1),
    ]


def test_a_bad_key_and_a_bad_name_are_both_named() -> None:
    with pytest.raises(InvalidArgument) as caught:
        KeyPair.create(ID, pb.KeyPair(public_key="x"), project_id="p1", user_id="u1")
    assert refused_fields(caught.value) == {"key_pair.display_name", "key_pair.public_key"}
