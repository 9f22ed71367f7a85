"""Which fields are sensitive, what is left of them after redaction, and how a value is sealed."""

from __future__ import annotations

import base64
import importlib
import os
import pkgutil
from typing import Any
from uuid import UUID

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor
from hypothesis import given
from hypothesis import strategies as st

import cirra
from cirra.compute.v1.events_pb2 import InstanceCreated
from cirra.identity.v1.events_pb2 import UserCreated
from cirra.options.v1 import options_pb2
from core.sealing import REDACTED, SealBroken, decode_master_key, has_sensitive, redact, sensitive_paths
from core.sealing.cipher import AggregateKey
from core.sealing.fields import has_sensitive_value

Field = descriptor_pb2.FieldDescriptorProto
ONE = UUID(int=1)
OTHER = UUID(int=2)


def _field(message: descriptor_pb2.DescriptorProto, name: str, kind: int, **more: object) -> None:
    """Adds a field; `sensitive`, `repeated`, `of` (a message type) say what is special about it."""
    field = message.field.add(
        name=name,
        number=len(message.field) + 1,
        type=kind,
        label=Field.LABEL_REPEATED if more.get("repeated") else Field.LABEL_OPTIONAL,
        type_name=str(more.get("of", "")) or None,
    )
    if more.get("sensitive"):
        field.options.Extensions[options_pb2.sensitive] = True


def _map_entry(message: descriptor_pb2.DescriptorProto, name: str, kind: int, **more: object) -> str:
    entry = message.nested_type.add(name=name)
    entry.options.map_entry = True
    _field(entry, "key", Field.TYPE_STRING)
    _field(entry, "value", kind, **more)
    return f".cirra.test.v1.{message.name}.{name}"


def _build() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name="cirra/test/v1/test.proto", package="cirra.test.v1", syntax="proto3")
    file.dependency.append("cirra/options/v1/options.proto")
    secret = file.message_type.add(name="Secret")
    _field(secret, "name", Field.TYPE_STRING)
    _field(secret, "value", Field.TYPE_BYTES, sensitive=True)
    tree = file.message_type.add(name="Tree")
    _field(tree, "secret", Field.TYPE_MESSAGE, of=".cirra.test.v1.Secret")
    _field(tree, "children", Field.TYPE_MESSAGE, of=".cirra.test.v1.Tree", repeated=True)
    named = _map_entry(tree, "NamedEntry", Field.TYPE_MESSAGE, of=".cirra.test.v1.Secret")
    _field(tree, "named", Field.TYPE_MESSAGE, of=named, repeated=True)
    raw = _map_entry(tree, "RawEntry", Field.TYPE_BYTES)
    _field(tree, "raw", Field.TYPE_MESSAGE, of=raw, repeated=True, sensitive=True)
    _field(tree, "many", Field.TYPE_BYTES, repeated=True, sensitive=True)
    _field(tree, "label", Field.TYPE_BYTES)
    plain = file.message_type.add(name="Plain")
    _field(plain, "next", Field.TYPE_MESSAGE, of=".cirra.test.v1.Plain")
    wrong = file.message_type.add(name="Wrong")
    _field(wrong, "password", Field.TYPE_STRING, sensitive=True)
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL = _build()


def described(name: str) -> Descriptor:
    return POOL.FindMessageTypeByName(f"cirra.test.v1.{name}")


def filled_tree() -> Any:
    tree: Any = message_factory.GetMessageClass(described("Tree"))()
    tree.secret.name, tree.secret.value = "name", b"SECRET"
    tree.children.add().children.add().secret.value = b"SECRET"
    tree.named["a"].value = b"SECRET"
    tree.raw["b"] = b"SECRET"
    tree.many.extend([b"SECRET", b"", b"SECRET"])
    tree.label = b"label"
    return tree


def test_paths_of_sensitive_fields() -> None:
    assert sensitive_paths(InstanceCreated.DESCRIPTOR) == ("user_data",)
    assert sensitive_paths(UserCreated.DESCRIPTOR) == ("password_hash",)
    assert sensitive_paths(described("Tree")) == ("secret.value", "named.value", "raw", "many")
    assert sensitive_paths(described("Plain")) == ()


def test_a_type_within_itself_has_what_it_reaches() -> None:
    assert has_sensitive(described("Tree"))
    assert not has_sensitive(described("Plain"))


def test_only_bytes_can_be_sensitive() -> None:
    with pytest.raises(TypeError, match="password"):
        sensitive_paths(described("Wrong"))


def test_every_type_of_the_contract_can_be_walked() -> None:
    """So no field of another type than bytes is marked, and the marks that there are get found."""
    found: set[str] = set()
    for module_info in pkgutil.walk_packages(cirra.__path__, "cirra."):
        if module_info.name.endswith("_pb2"):
            module = importlib.import_module(module_info.name)
            for name, descriptor in module.DESCRIPTOR.message_types_by_name.items():
                found |= {f"{name}.{path}" for path in sensitive_paths(descriptor)}
    assert {"InstanceCreated.user_data", "UserCreated.password_hash"} <= found


def test_redaction_leaves_no_secret_at_any_depth() -> None:
    tree = filled_tree()
    redacted = redact(tree)
    assert b"SECRET" not in redacted.SerializeToString()
    assert redacted.SerializeToString().count(REDACTED) == 6
    assert (redacted.secret.name, redacted.label) == ("name", b"label")
    assert list(redacted.many) == [REDACTED, b"", REDACTED]
    assert tree == filled_tree(), "the message itself stays as it was"


def test_redaction_sets_nothing_that_was_not_set() -> None:
    tree = message_factory.GetMessageClass(described("Tree"))()
    assert redact(tree) == tree
    assert not redact(tree).HasField("secret")
    assert not has_sensitive_value(tree)
    assert has_sensitive_value(filled_tree())


def test_a_message_without_sensitive_fields_is_itself() -> None:
    plain = message_factory.GetMessageClass(described("Plain"))()
    assert redact(plain) is plain


@given(value=st.binary(min_size=1, max_size=200))
def test_a_value_comes_back(value: bytes) -> None:
    key = AggregateKey.generate(ONE)
    sealed = key.seal("a.b", value)
    assert key.unseal("a.b", sealed) == value
    assert sealed != key.seal("a.b", value)


def test_a_value_is_bound_to_its_field_and_aggregate() -> None:
    key = AggregateKey.generate(ONE)
    sealed = key.seal("a.b", b"value")
    with pytest.raises(SealBroken):
        key.unseal("a.c", sealed)
    with pytest.raises(SealBroken):
        AggregateKey(OTHER, key.secret).unseal("a.b", sealed)


@pytest.mark.parametrize("position", [-1, 0, 12, 25])
def test_an_altered_value_does_not_open(position: int) -> None:
    key = AggregateKey.generate(ONE)
    sealed = bytearray(key.seal("a.b", b"value"))
    sealed[position] ^= 1
    with pytest.raises(SealBroken):
        key.unseal("a.b", bytes(sealed))


def test_another_key_tells_that_it_is_another() -> None:
    sealed = AggregateKey.generate(ONE).seal("a.b", b"value")
    assert AggregateKey.generate(ONE).unseal("a.b", sealed) is None


def test_a_key_is_wrapped_by_the_master_key_and_bound_to_its_aggregate() -> None:
    master, key = os.urandom(32), AggregateKey.generate(ONE)
    wrapped = key.wrap(master)
    assert key.secret not in wrapped
    assert AggregateKey.unwrap(ONE, wrapped, master) == key
    for aggregate_id, master_key in ((OTHER, master), (ONE, os.urandom(32))):
        with pytest.raises(SealBroken):
            AggregateKey.unwrap(aggregate_id, wrapped, master_key)


def test_a_key_does_not_show_itself() -> None:
    key = AggregateKey.generate(ONE)
    assert repr(key.secret)[2:-1] not in repr(key)


def test_master_keys() -> None:
    key = os.urandom(32)
    assert decode_master_key(base64.b64encode(key).decode()) == key
    for bad in ("", "not base64!", base64.b64encode(key[:16]).decode()):
        with pytest.raises(ValueError, match="master key"):
            decode_master_key(bad)
