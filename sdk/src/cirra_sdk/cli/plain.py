"""Messages as plain data for JSON and YAML: names as in the proto, all fields there, enums without their prefix."""

from __future__ import annotations

import base64
import importlib
import pkgutil
import re
from datetime import UTC, datetime
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp


def plain(message: Message) -> Any:
    """What json and yaml can write. An unset message or an unspecified enum is None, octets are text or Base64."""
    if isinstance(message, Timestamp):
        return time_text(message)
    if isinstance(message, AnyMessage):
        return _unpacked(message)
    return {field.name: _value(message, field) for field in message.DESCRIPTOR.fields}


def time_text(timestamp: Timestamp) -> str:
    """RFC 3339 in UTC, to the millisecond; "" when unset."""
    if not timestamp.seconds and not timestamp.nanos:
        return ""
    return datetime.fromtimestamp(timestamp.ToNanoseconds() / 1e9, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def enum_text(message: Message, field: str) -> str:
    """An enum's value as people say it: INSTANCE_STATUS_ACTIVE is "ACTIVE"; "" when unspecified."""
    descriptor = message.DESCRIPTOR.fields_by_name[field]
    return _enum_text(descriptor.enum_type, getattr(message, field)) or ""


def _enum_text(enum: Any, number: int) -> str | None:
    if number == 0:
        return None
    value = enum.values_by_number.get(number)
    return str(number) if value is None else value.name.removeprefix(enum_prefix(enum))


def enum_prefix(enum: Any) -> str:
    """InstanceStatus → INSTANCE_STATUS_."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"


def _value(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        inner = entry.fields_by_name["value"]
        return {key: _scalar(inner, value[key]) for key in sorted(value)}
    if field.is_repeated:
        return [_scalar(field, item) for item in value]
    if entry is not None and not message.HasField(field.name):
        return None
    return _scalar(field, value)


def _scalar(field: Any, value: Any) -> Any:
    if field.enum_type is not None:
        return _enum_text(field.enum_type, value)
    if isinstance(value, Message):
        return plain(value)
    if isinstance(value, bytes):
        return _octets(value)
    return value


def _octets(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def _unpacked(message: AnyMessage) -> Any:
    """The event inside, with its type. What this version does not know stays encoded."""
    name = message.TypeName()
    if not name:
        return None
    try:
        return {"@type": name, **plain(unpacked(message))}
    except (KeyError, DecodeError):
        return {"@type": name, "value": base64.b64encode(message.value).decode()}


def unpacked(message: AnyMessage) -> Message:
    """The message inside. Raises KeyError for a type that this version does not know, DecodeError."""
    inner = GetMessageClass(_descriptor(message.TypeName()))()
    inner.ParseFromString(message.value)
    return inner


def _descriptor(name: str) -> Any:
    """Raises KeyError. A package's messages are known once its modules have been imported."""
    try:
        return Default().FindMessageTypeByName(name)
    except KeyError:
        _load_package(name.rpartition(".")[0])
        return Default().FindMessageTypeByName(name)


def _load_package(name: str) -> None:
    if not re.fullmatch(r"cirra(\.[a-z0-9]+)+", name):
        return
    try:
        package = importlib.import_module(name)
    except ModuleNotFoundError:
        return
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.endswith("_pb2"):
            importlib.import_module(f"{name}.{module.name}")
