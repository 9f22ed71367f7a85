"""The layers around every RPC, outermost first: correlation, tracing, metrics, errors."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog
from grpc import StatusCode
from grpc.aio import AbortError
from opentelemetry.trace import SpanKind, Status
from opentelemetry.trace import StatusCode as SpanStatus

from core import metrics, telemetry
from core.errors import CirraError
from core.rpc.interceptors.call import Handler, ServerCall
from core.rpc.metadata import CORRELATION_ID, STATUS_DETAILS, text
from core.rpc.status import status_code, to_status

_log = structlog.get_logger(__name__)
# The server's fault, not the caller's.
_SERVER_FAULTS = frozenset(
    {StatusCode.INTERNAL, StatusCode.UNKNOWN, StatusCode.UNAVAILABLE, StatusCode.DATA_LOSS, StatusCode.UNIMPLEMENTED}
)


def correlation(handler: Handler) -> Handler:
    """Takes the caller's correlation id, or begins a new one."""

    async def correlated(call: ServerCall, request: Any) -> Any:
        received = text(call.metadata, CORRELATION_ID)
        value = received if telemetry.valid_correlation_id(received) else telemetry.new_correlation_id()
        telemetry.set_correlation_id(value)
        return await handler(call, request)

    return correlated


def tracing(handler: Handler) -> Handler:
    """One span per RPC, in the caller's trace."""

    async def traced(call: ServerCall, request: Any) -> Any:
        name = call.method.strip("/")
        service, _, method = name.partition("/")
        attributes = {
            "rpc.system": "grpc",
            "rpc.service": service,
            "rpc.method": method,
            "cirra.correlation_id": telemetry.correlation_id(),
        }
        with telemetry.tracer().start_as_current_span(
            name,
            telemetry.extract(call.metadata),
            kind=SpanKind.SERVER,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                return await handler(call, request)
            finally:
                span.set_attribute("rpc.grpc.status_code", call.code.value[0])
                if call.code in _SERVER_FAULTS:
                    span.set_status(Status(SpanStatus.ERROR, call.code.name))

    return traced


def measuring(handler: Handler) -> Handler:
    async def measured(call: ServerCall, request: Any) -> Any:
        began = time.perf_counter()
        try:
            return await handler(call, request)
        finally:
            metrics.RPC_SERVED.labels(call.method, call.code.name).observe(time.perf_counter() - began)

    return measured


def errors(handler: Handler) -> Handler:
    """Ends the call with the status of the error that its handler raised; tells no stranger's text to the caller."""

    async def mapped(call: ServerCall, request: Any) -> Any:
        try:
            return await handler(call, request)
        except AbortError:
            call.code = call.context.code() or StatusCode.UNKNOWN
            raise
        except asyncio.CancelledError:
            call.code = StatusCode.CANCELLED
            raise
        except CirraError as error:
            call.code = status_code(error)
            if call.code in _SERVER_FAULTS:
                _log.warning("rpc failed", method=call.method, reason=error.reason, error=error.message, exc_info=error)
            await _abort(call, error)
        except Exception as error:
            call.code = StatusCode.INTERNAL
            _log.exception("rpc failed unexpectedly", method=call.method)
            correlation = telemetry.correlation_id()
            hidden = CirraError(
                f"internal error; correlation id {correlation}",
                remedy="look for the correlation id in the logs",
                metadata={"correlation_id": correlation},
            )
            hidden.__cause__ = error
            await _abort(call, hidden)

    return mapped


async def _abort(call: ServerCall, error: CirraError) -> None:
    status = to_status(error)
    others = [(key, value) for key, value in call.context.trailing_metadata() or () if key != STATUS_DETAILS]
    details = (STATUS_DETAILS, status.SerializeToString())
    try:
        await call.context.abort(status_code(error), status.message, (*others, details))
    except AbortError as aborted:
        raise aborted from error
