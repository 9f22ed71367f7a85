from __future__ import annotations

from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata
from hypothesis import given
from hypothesis import strategies as st

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
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from core.rpc.metadata import STATUS_DETAILS
from core.rpc.status import from_rpc_error, from_status, status_code, to_status

KINDS = (
    AlreadyExists,
    CirraError,
    Conflict,
    DeadlineExceeded,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)


def over_the_wire(error: CirraError) -> CirraError:
    status = to_status(error)
    trailing = Metadata((STATUS_DETAILS, status.SerializeToString()))
    return from_rpc_error(AioRpcError(status_code(error), Metadata(), trailing, details=status.message))


@given(
    kind=st.sampled_from(KINDS),
    message=st.text(max_size=200),
    reason=st.from_regex(r"[A-Z_]{1,20}", fullmatch=True),
    retryable=st.booleans(),
    remedy=st.text(max_size=50),
    metadata=st.dictionaries(st.sampled_from(("host", "limit", "used")), st.text(max_size=20)),
)
def test_an_error_arrives_as_it_was_raised(
    kind: type[CirraError], message: str, reason: str, retryable: bool, remedy: str, metadata: dict[str, str]
) -> None:
    arrived = over_the_wire(kind(message, reason=reason, retryable=retryable, remedy=remedy, metadata=metadata))
    assert type(arrived) is kind
    assert str(arrived) == arrived.message == message
    assert (arrived.reason, arrived.retryable, arrived.remedy) == (reason, retryable, remedy)
    assert arrived.metadata == metadata


def test_field_violations_arrive() -> None:
    violations = (FieldViolation("instance.flavor", "no such flavor"), FieldViolation("request_id", "not a UUID"))
    arrived = over_the_wire(InvalidArgument(*violations, reason="BAD_INSTANCE"))
    assert isinstance(arrived, InvalidArgument)
    assert arrived.violations == violations
    assert arrived.reason == "BAD_INSTANCE"
    assert not arrived.retryable


def test_a_subclass_arrives_as_the_class_that_the_contract_knows() -> None:
    class VersionConflict(Conflict):
        reason = "VERSION_CONFLICT"

        def __init__(self, version: int) -> None:
            super().__init__(f"version {version} is taken")

    arrived = over_the_wire(VersionConflict(7))
    assert type(arrived) is Conflict
    assert arrived.reason == "VERSION_CONFLICT"
    assert arrived.retryable


def test_a_failure_of_the_connection_is_judged_by_its_code() -> None:
    unavailable = from_status(StatusCode.UNAVAILABLE, "connection refused", None)
    assert isinstance(unavailable, Unavailable)
    assert unavailable.retryable
    assert isinstance(from_status(StatusCode.DEADLINE_EXCEEDED, "", None), DeadlineExceeded)
    unimplemented = from_status(StatusCode.UNIMPLEMENTED, "no such method", None)
    assert type(unimplemented) is CirraError
    assert unimplemented.reason == "UNIMPLEMENTED"
    assert not unimplemented.retryable


def test_a_long_text_is_cut_to_fit_in_a_header() -> None:
    violations = [FieldViolation(f"field_{n}", "x" * 5000) for n in range(500)]
    for error in (NotFound("x" * 100_000, remedy="y" * 100_000), InvalidArgument(*violations)):
        assert to_status(error).ByteSize() < 64 * 1024 * 3 // 4
