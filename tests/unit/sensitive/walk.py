"""Every message of the contract, and messages of each kind with a canary in one sensitive field."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

import cirra
from cirra.options.v1 import options_pb2
from core.sealing import sensitive_paths

OPEN_WORD = "open-word"


@cache
def contract_messages() -> tuple[Descriptor, ...]:
    """Of all files below proto/cirra, inner ones too; entries of maps are their maps' concern."""
    found: list[Descriptor] = []
    for module_info in pkgutil.walk_packages(cirra.__path__, "cirra."):
        if module_info.name.endswith("_pb2"):
            file = importlib.import_module(module_info.name).DESCRIPTOR
            found += [each for each in _with_inner(file.message_types_by_name.values())]
    return tuple(found)


def _with_inner(descriptors: Any) -> Iterator[Descriptor]:
    for descriptor in descriptors:
        if not descriptor.GetOptions().map_entry:
            yield descriptor
        yield from _with_inner(descriptor.nested_types)


def is_marked(field: FieldDescriptor) -> bool:
    return bool(field.GetOptions().Extensions[options_pb2.sensitive])


@dataclass(frozen=True, slots=True)
class Case:
    """A message of one type; `canary` is in the field at `path`, and nowhere else."""

    descriptor: Descriptor
    path: str
    canary: bytes

    def message(self) -> Message:
        message = GetMessageClass(self.descriptor)()
        _plant(message, self.path.split("."), self.canary)
        return message

    def __str__(self) -> str:
        return f"{self.descriptor.full_name}.{self.path}"


@cache
def cases() -> tuple[Case, ...]:
    """One for each way to a sensitive field, from each message that can hold one at any depth."""
    paths = [(each, path) for each in contract_messages() for path in sensitive_paths(each)]
    return tuple(
        Case(each, path, f"canary-{number:04}-of-{each.name}".encode()) for number, (each, path) in enumerate(paths)
    )


def _plant(message: Message, path: list[str], canary: bytes) -> None:
    """Along the way every text that is there says something, so that a search that finds nothing has read something."""
    descriptor = cast("Descriptor", message.DESCRIPTOR)
    for field in descriptor.fields:
        if field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated and field.containing_oneof is None:
            setattr(message, field.name, OPEN_WORD)
    field = descriptor.fields_by_name[path[0]]
    held: Any = getattr(message, field.name)
    is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
    if len(path) == 1 and is_map:
        held["key"] = canary
    elif len(path) == 1 and field.is_repeated:
        held.append(canary)
    elif len(path) == 1:
        setattr(message, field.name, canary)
    else:
        inner = held["key"] if is_map else held.add() if field.is_repeated else held
        inner.SetInParent()
        _plant(inner, path[1:], canary)
