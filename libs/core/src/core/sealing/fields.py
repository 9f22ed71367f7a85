"""Which fields of a message are sensitive, and a copy of it with them replaced. Pure.

A field is sensitive by the option `[(cirra.options.v1.sensitive) = true]`, which only `bytes` fields may carry:
singular, repeated, in a oneof, or the values of a map. A `google.protobuf.Any` is not looked into.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from cirra.options.v1 import options_pb2

M = TypeVar("M", bound=Message)

REDACTED = b"[redacted]"

Replace = Callable[[FieldDescriptor, bytes], bytes]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to visit in a message: its own sensitive fields, and the fields whose messages have some within."""

    sensitive: tuple[FieldDescriptor, ...]
    nested: tuple[FieldDescriptor, ...]


def sensitive_paths(descriptor: Descriptor) -> tuple[str, ...]:
    """The sensitive fields of a message type, at any depth, as dotted paths in order of declaration.

    A type within itself is entered once. Raises TypeError when the option is on a field that is not `bytes`.
    """
    return tuple(_walk(descriptor, "", (descriptor.full_name,)))


def has_sensitive(descriptor: Descriptor) -> bool:
    """Whether a message of this type can hold a sensitive field, at any depth."""
    plan = _plan(descriptor)
    return bool(plan.sensitive or plan.nested)


def has_sensitive_value(message: Message) -> bool:
    """Whether a sensitive field of this message, at any depth, is not empty."""
    plan = _plan(_type_of(message))
    return any(any(_values(message, field)) for field in plan.sensitive) or any(
        has_sensitive_value(child) for field in plan.nested for child in _children(message, field)
    )


def redact(message: M) -> M:
    """The message with REDACTED in each sensitive field that is not empty; itself when it can have none."""
    return replace_sensitive(message, lambda _field, _value: REDACTED)


def replace_sensitive(message: M, replace: Replace) -> M:
    """A copy in which each sensitive value that is not empty is replaced; itself when its type can have none."""
    if not has_sensitive(_type_of(message)):
        return message
    copy = type(message)()
    copy.CopyFrom(message)
    _replace_in(copy, replace)
    return copy


def _walk(descriptor: Descriptor, prefix: str, entered: tuple[str, ...]) -> list[str]:
    plan = _plan(descriptor)
    paths: list[str] = []
    for field in descriptor.fields:
        if field in plan.sensitive:
            paths.append(prefix + field.name)
        elif field in plan.nested:
            child = _child_type(field)
            if child is not None and child.full_name not in entered:
                paths += _walk(child, f"{prefix}{field.name}.", (*entered, child.full_name))
    return paths


@cache
def _plan(descriptor: Descriptor) -> _Plan:
    nested = tuple(
        field for field in descriptor.fields if (child := _child_type(field)) is not None and _reaches_sensitive(child)
    )
    return _Plan(tuple(field for field in descriptor.fields if _is_sensitive(field)), nested)


def _reaches_sensitive(descriptor: Descriptor) -> bool:
    """Whether a sensitive field can be reached, also through types that contain themselves."""
    to_visit, seen = [descriptor], {descriptor.full_name}
    while to_visit:
        for field in to_visit.pop().fields:
            if _is_sensitive(field):
                return True
            child = _child_type(field)
            if child is not None and child.full_name not in seen:
                seen.add(child.full_name)
                to_visit.append(child)
    return False


def _is_sensitive(field: FieldDescriptor) -> bool:
    if not field.GetOptions().Extensions[options_pb2.sensitive]:
        return False
    if _value_field(field).type != FieldDescriptor.TYPE_BYTES:
        raise TypeError(f"{field.full_name} is marked sensitive but is not of type bytes")
    return True


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _value_field(field: FieldDescriptor) -> FieldDescriptor:
    """The field itself, or what holds the values of a map."""
    entry = field.message_type
    return entry.fields_by_name["value"] if entry is not None and _is_map(field) else field


def _child_type(field: FieldDescriptor) -> Descriptor | None:
    """The type of the messages that a field holds, if it holds messages."""
    return _value_field(field).message_type


def _type_of(message: Message) -> Descriptor:
    return cast("Descriptor", message.DESCRIPTOR)


def _values(message: Message, field: FieldDescriptor) -> list[bytes]:
    """The values of a sensitive field, however many."""
    value: Any = getattr(message, field.name)
    if _is_map(field):
        return list(value.values())
    return list(value) if field.is_repeated else [value]


def _children(message: Message, field: FieldDescriptor) -> list[Message]:
    """The messages that are set in a field of messages. Does not set any."""
    if _is_map(field):
        return list(getattr(message, field.name).values())
    if field.is_repeated:
        return list(getattr(message, field.name))
    return [getattr(message, field.name)] if message.HasField(field.name) else []


def _replace_in(message: Message, replace: Replace) -> None:
    plan = _plan(_type_of(message))
    for field in plan.sensitive:
        value: Any = getattr(message, field.name)
        if _is_map(field):
            for key, item in list(value.items()):
                value[key] = replace(field, item) if item else item
        elif field.is_repeated:
            value[:] = [replace(field, item) if item else item for item in value]
        elif value:
            setattr(message, field.name, replace(field, value))
    for field in plan.nested:
        for child in _children(message, field):
            _replace_in(child, replace)
