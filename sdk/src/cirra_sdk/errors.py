"""What the cloud answers when it can't do something, as exceptions: one class per gRPC status, one stable `reason`.

A status carries `google.rpc.ErrorInfo` (reason, remedy), `BadRequest` (fields) and, when the same call may succeed
later, `RetryInfo`. Source: https://google.aip.dev/193.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grpc.aio import AioRpcError

    from cirra.operations.v1.operations_pb2 import Operation

_STATUS_DETAILS = "grpc-status-details-bin"
_REMEDY = "remedy"
_NOT_TRUSTED = "CERTIFICATE_VERIFY_FAILED"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One bad field of a request: `field` as in the proto ("instance.flavor"), `description` with the remedy."""

    field: str
    description: str


class CirraError(Exception):
    """The root: `message` says what is wrong, `remedy` (perhaps empty) what a person can do about it."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class ConfigurationError(CirraError):
    """Which cloud to talk to, or as whom, is not told, or told wrongly."""


class CirraApiError(CirraError):
    """The cloud refused or failed. `retryable`: the same call may succeed later, unchanged."""

    def __init__(
        self,
        reason: str,
        message: str,
        remedy: str = "",
        field_violations: Sequence[FieldViolation] = (),
        retryable: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.reason = reason
        self.field_violations = tuple(field_violations)
        self.retryable = retryable
        self.metadata = dict(metadata or {})

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


class InvalidArgument(CirraApiError):
    """The request itself is wrong: `field_violations` name each bad field."""


class Unauthenticated(CirraApiError):
    """A wrong password, no token, or one that is expired, revoked or forged."""


class PermissionDenied(CirraApiError):
    """The token's roles are not enough."""


class NotFound(CirraApiError):
    """Also said of what another project owns."""


class AlreadyExists(CirraApiError):
    """The name is taken."""


class FailedPrecondition(CirraApiError):
    """The state of the thing, or of another that it needs, forbids it."""


class ResourceExhausted(CirraApiError):
    """A quota, a pool of addresses or the hosts' capacity is used up."""


class Conflict(CirraApiError):
    """Somebody else changed it at the same time."""


class DeadlineExceeded(CirraApiError):
    """The answer took too long; what was asked may have happened."""


class Unavailable(CirraApiError):
    """A part that is needed is away just now."""


class Unreachable(Unavailable):
    """Nothing answered at the endpoint, or it could not prove who it is."""


class OperationFailed(CirraApiError):
    """A change that was accepted did not come about. `operation` tells each step of it."""

    def __init__(self, operation: Operation) -> None:
        # What keeps it from its end says more than why it began to be undone.
        error = operation.stuck.error if operation.stuck.HasField("error") else operation.error
        super().__init__(error.reason or "OPERATION_FAILED", error.message or f"{operation.kind} failed", error.remedy)
        self.operation = operation


_CLASSES: Mapping[str, type[CirraApiError]] = {
    "INVALID_ARGUMENT": InvalidArgument,
    "OUT_OF_RANGE": InvalidArgument,
    "UNAUTHENTICATED": Unauthenticated,
    "PERMISSION_DENIED": PermissionDenied,
    "NOT_FOUND": NotFound,
    "ALREADY_EXISTS": AlreadyExists,
    "FAILED_PRECONDITION": FailedPrecondition,
    "RESOURCE_EXHAUSTED": ResourceExhausted,
    "ABORTED": Conflict,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "UNAVAILABLE": Unavailable,
}


def from_rpc_error(error: AioRpcError, endpoint: str) -> CirraApiError:
    """The exception for a failed call to the cloud at *endpoint*."""
    code, message = error.code().name, error.details() or ""
    details = dict(error.trailing_metadata() or ()).get(_STATUS_DETAILS)
    if isinstance(details, bytes):
        return _from_details(code, message, details)
    # No word of the cloud's own: the connection failed, or our own deadline ran out.
    if code == "UNAVAILABLE":
        return _unreachable(endpoint, message)
    if code == "DEADLINE_EXCEEDED":
        return Unreachable(
            "UNREACHABLE",
            f"the cloud at {endpoint} does not answer",
            "see whether it is overloaded or paused, and try again",
            retryable=True,
        )
    if code == "UNIMPLEMENTED":
        remedy = "this cloud is older than your client, or the function is not there yet"
        return CirraApiError(code, message or "the cloud does not know this call", remedy)
    return _CLASSES.get(code, CirraApiError)(code, message)


def _unreachable(endpoint: str, message: str) -> Unreachable:
    if _NOT_TRUSTED in message:
        return Unreachable(
            "NOT_TRUSTED",
            f"the cloud at {endpoint} could not prove who it is",
            "check the CA file (CIRRA_CA_FILE, or ca_file in clouds.yaml)",
        )
    # gRPC's words begin with its own affairs: "failed to connect to all addresses; last error: …: Connection refused".
    why = message.rpartition(": ")[2].rstrip("])")
    remedy = "check that it runs, and the endpoint (CIRRA_ENDPOINT, or clouds.yaml)"
    if endpoint.startswith("http://"):
        remedy += "; a cloud that speaks TLS is named without http://"
    return Unreachable(
        "UNREACHABLE", f"no answer from the cloud at {endpoint}{f' ({why})' if why else ''}", remedy, retryable=True
    )


def _from_details(code: str, message: str, details: bytes) -> CirraApiError:
    # Loaded when there is an error: most calls need none of it.
    from google.rpc import error_details_pb2
    from google.rpc.status_pb2 import Status

    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    retryable = False
    for detail in Status.FromString(details).details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            detail.Unpack(bad_request)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retryable = True
    metadata = dict(info.metadata)
    remedy = metadata.pop(_REMEDY, "")
    violations = _violations(bad_request.field_violations)
    kind = _CLASSES.get(code, CirraApiError)
    return kind(info.reason or code, message, remedy, violations, retryable, metadata)


def _violations(found: Iterable[FieldViolation]) -> tuple[FieldViolation, ...]:
    return tuple(FieldViolation(violation.field, violation.description) for violation in found)
