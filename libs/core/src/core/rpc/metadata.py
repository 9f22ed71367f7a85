"""gRPC metadata that Cirra sends beside messages (docs/architecture.md, "Metadata that travels")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from grpc.aio import ServicerContext

TRACEPARENT = "traceparent"
CORRELATION_ID = "cirra-correlation-id"
# A serialised cirra.identity.v1.Principal; "-bin" marks binary metadata.
ACTOR = "cirra-actor-bin"
# Trailing: the position that the answer has read, or that its write got.
POSITION = "cirra-position"
# Trailing, beside the position: the log's epoch. A position of an earlier one may be of a history that was lost.
EPOCH = "cirra-epoch"
# Sent by a client: the answer must have read at least this position.
MIN_POSITION = "cirra-min-position"
STATUS_DETAILS = "grpc-status-details-bin"

Pairs = Iterable[tuple[str, str | bytes]]


def as_mapping(pairs: Pairs | None) -> dict[str, str | bytes]:
    """Metadata as a mapping; of a repeated key the last value."""
    return {key: value for key, value in pairs or ()}


def text(metadata: Mapping[str, str | bytes], key: str) -> str:
    """The text under *key*; "" when it is absent or binary."""
    value = metadata.get(key, "")
    return value if isinstance(value, str) else ""


def request_metadata(context: ServicerContext[Any, Any]) -> dict[str, str | bytes]:
    """What the client sent."""
    return as_mapping(context.invocation_metadata())


def min_position(context: ServicerContext[Any, Any]) -> int:
    """The position that the client wants the answer to have read; 0 when it asks for none, or not by a number."""
    value = text(request_metadata(context), MIN_POSITION)
    return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else 0


def set_position(context: ServicerContext[Any, Any], position: int, epoch: int) -> None:
    """Send *position* and the *epoch* that it is of with the answer, beside what is sent already."""
    others = [(key, value) for key, value in context.trailing_metadata() or () if key not in (POSITION, EPOCH)]
    context.set_trailing_metadata((*others, (POSITION, str(position)), (EPOCH, str(epoch))))


def position_of(trailing: Pairs | None) -> int:
    """The position in an answer's trailing metadata; 0 when there is none."""
    value = text(as_mapping(trailing), POSITION)
    return int(value) if value.isascii() and value.isdigit() else 0
