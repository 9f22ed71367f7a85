"""The one tree of errors. A reason is stable and upper-case (`google.rpc.ErrorInfo.reason`); a message is for a person.

One interceptor (`core.rpc`) maps the tree to gRPC status; nothing else does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One bad field of a request: `field` as in the proto ("instance.flavor"), `description` with the remedy."""

    field: str
    description: str


class CirraError(Exception):
    """The root. `retryable`: the same call may succeed later, unchanged."""

    reason = "INTERNAL"
    retryable = False

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        retryable: bool | None = None,
        remedy: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or type(self).reason
        self.retryable = type(self).retryable if retryable is None else retryable
        self.remedy = remedy
        self.metadata = dict(metadata or {})


class InvalidArgument(CirraError):
    """The request itself is wrong; gRPC INVALID_ARGUMENT with a `BadRequest` detail."""

    reason = "INVALID_ARGUMENT"

    def __init__(self, *violations: FieldViolation, reason: str | None = None) -> None:
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations), reason=reason)
        self.violations = violations


class Unauthenticated(CirraError):
    """No token, or one that is expired, revoked or forged."""

    reason = "UNAUTHENTICATED"


class PermissionDenied(CirraError):
    reason = "PERMISSION_DENIED"


class NotFound(CirraError):
    """Also said of what another project owns: its existence is not told."""

    reason = "NOT_FOUND"


class AlreadyExists(CirraError):
    reason = "ALREADY_EXISTS"


class FailedPrecondition(CirraError):
    """The object's state forbids it; gRPC FAILED_PRECONDITION."""

    reason = "FAILED_PRECONDITION"


class ResourceExhausted(CirraError):
    """A quota, a pool of addresses or the hosts' capacity is used up."""

    reason = "RESOURCE_EXHAUSTED"


class Conflict(CirraError):
    """Somebody else changed it at the same time, more often than we tried; gRPC ABORTED."""

    reason = "CONFLICT"
    retryable = True


class Unavailable(CirraError):
    """A part that is needed can't be reached now; gRPC UNAVAILABLE."""

    reason = "UNAVAILABLE"
    retryable = True


class DeadlineExceeded(CirraError):
    reason = "DEADLINE_EXCEEDED"
    retryable = True


class Poison(CirraError):
    """A message that can never be handled: to the dead letter, not again."""

    reason = "POISON"
