"""From an event of the log to its protobuf message."""

from __future__ import annotations

from functools import cache

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message

# Imported for what they register: the messages of all events.
from cirra.compute.v1 import events_pb2 as _compute  # noqa: F401
from cirra.conductor.v1 import sagas_pb2 as _sagas  # noqa: F401
from cirra.identity.v1 import events_pb2 as _identity  # noqa: F401
from cirra.image.v1 import events_pb2 as _image  # noqa: F401
from cirra.network.v1 import events_pb2 as _network  # noqa: F401
from cirra.operations.v1 import events_pb2 as _operations  # noqa: F401
from cirra.placement.v1 import events_pb2 as _placement  # noqa: F401
from core.aggregate import upcast
from core.eventlog.types import RecordedEvent


def decode(event: RecordedEvent) -> Message | None:
    """The event's message in the present schema version; None for a type that this gateway is too old to know.

    Raises DecodeError for bytes that are no such message.
    """
    message_class = _message_class(event.type)
    if message_class is None:
        return None
    message = message_class.FromString(event.data)
    upcast(message, event.schema_version)
    return message


@cache
def _message_class(full_name: str) -> type[Message] | None:
    try:
        descriptor = descriptor_pool.Default().FindMessageTypeByName(full_name)
    except KeyError:
        return None
    return message_factory.GetMessageClass(descriptor)
