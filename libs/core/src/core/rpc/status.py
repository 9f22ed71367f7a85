"""The tree of errors as gRPC status, and back: the one place where the two meet.

A status carries `google.rpc.ErrorInfo` (stable reason, domain, metadata), `BadRequest` for field violations and
`RetryInfo` when the same call may succeed later. Source: https://google.aip.dev/193.
"""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from grpc.aio import AioRpcError

from core.errors import (
    AlreadyExists,
    CirraError,
    Conflict,
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Poison,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from core.rpc.metadata import STATUS_DETAILS, as_mapping

DOMAIN = "cirra"
_REMEDY = "remedy"
_RETRY_DELAY_MS = 200
# Status travels in HTTP/2 headers, which both ends bound.
_MAX_TEXT = 2000
_MAX_VIOLATIONS = 50

_CODES: Mapping[type[CirraError], StatusCode] = {
    InvalidArgument: StatusCode.INVALID_ARGUMENT,
    Unauthenticated: StatusCode.UNAUTHENTICATED,
    PermissionDenied: StatusCode.PERMISSION_DENIED,
    NotFound: StatusCode.NOT_FOUND,
    AlreadyExists: StatusCode.ALREADY_EXISTS,
    FailedPrecondition: StatusCode.FAILED_PRECONDITION,
    ResourceExhausted: StatusCode.RESOURCE_EXHAUSTED,
    Conflict: StatusCode.ABORTED,
    Unavailable: StatusCode.UNAVAILABLE,
    DeadlineExceeded: StatusCode.DEADLINE_EXCEEDED,
    Poison: StatusCode.DATA_LOSS,
    CirraError: StatusCode.INTERNAL,
}
_CLASSES: Mapping[StatusCode, type[CirraError]] = {
    **{code: error for error, code in _CODES.items()},
    # Said by gRPC itself or by a proxy, never by us.
    StatusCode.OUT_OF_RANGE: InvalidArgument,
    StatusCode.CANCELLED: Unavailable,
}


def status_code(error: CirraError) -> StatusCode:
    """The code of an error: its own class's, or the nearest base's."""
    return next(_CODES[base] for base in type(error).__mro__ if base in _CODES)


def to_status(error: CirraError) -> Status:
    """The whole status of an error. Texts are cut to what fits in a header."""
    message = _cut(error.message)
    status = Status(code=status_code(error).value[0], message=message)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    info.metadata.update({key: _cut(value) for key, value in error.metadata.items()})
    if error.remedy:
        info.metadata[_REMEDY] = _cut(error.remedy)
    status.details.add().Pack(info)
    if isinstance(error, InvalidArgument) and error.violations:
        bad_request = error_details_pb2.BadRequest()
        for violation in error.violations[:_MAX_VIOLATIONS]:
            bad_request.field_violations.add(field=violation.field, description=violation.description[:500])
        status.details.add().Pack(bad_request)
    if error.retryable:
        delay = Duration()
        delay.FromMilliseconds(_RETRY_DELAY_MS)
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def from_status(code: StatusCode, message: str, status: Status | None) -> CirraError:
    """The error that a status stands for. Without our details, its code decides (and whether it is retryable)."""
    kind = _CLASSES.get(code, CirraError)
    if status is None:
        reason = kind.reason if kind is not CirraError else code.name
        return _build(kind, message, reason, kind.retryable, "", {}, ())
    info = error_details_pb2.ErrorInfo()
    violations: list[FieldViolation] = []
    has_info = retryable = False
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            has_info = detail.Unpack(info)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retryable = True
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad_request = error_details_pb2.BadRequest()
            detail.Unpack(bad_request)
            violations += [FieldViolation(v.field, v.description) for v in bad_request.field_violations]
    metadata = dict(info.metadata)
    remedy = metadata.pop(_REMEDY, "")
    reason = info.reason or kind.reason
    return _build(kind, message, reason, retryable if has_info else kind.retryable, remedy, metadata, tuple(violations))


def from_rpc_error(error: AioRpcError) -> CirraError:
    """The error that a server of ours raised, or that the connection's failure amounts to."""
    details = as_mapping(error.trailing_metadata()).get(STATUS_DETAILS)
    status = Status.FromString(details) if isinstance(details, bytes) else None
    return from_status(error.code(), error.details() or "", status)


def _build(
    kind: type[CirraError],
    message: str,
    reason: str,
    retryable: bool,
    remedy: str,
    metadata: dict[str, str],
    violations: tuple[FieldViolation, ...],
) -> CirraError:
    """An error of class *kind*, whose subclasses' constructors may differ but whose attributes don't."""
    error = InvalidArgument(*violations) if issubclass(kind, InvalidArgument) else kind(message)
    error.args = (message,)
    error.message = message
    error.reason = reason
    error.retryable = retryable
    error.remedy = remedy
    error.metadata = metadata
    return error


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"
