"""Outgoing calls: what is sent beside the message, a span around each, errors as the tree of `core.errors`.

The channel's callables are wrapped. gRPC's own client interceptors would cost a task per call, and an object can be an
interceptor of one of the four kinds of call only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

from grpc import StatusCode
from grpc.aio import EOF, AioRpcError
from opentelemetry.trace import Span, SpanKind, Status
from opentelemetry.trace import StatusCode as SpanStatus

from core import metrics, telemetry
from core.rpc.context import current_principal, principal_metadata
from core.rpc.metadata import ACTOR, CORRELATION_ID, TRACEPARENT, Pairs
from core.rpc.status import from_rpc_error

Invoke = Callable[..., Any]


class OutgoingMethod:
    """One method of a stub: called with a request, or with an iterator of them, it begins an `OutgoingCall`."""

    def __init__(self, method: str, invoke: Invoke, default_timeout_s: float | None) -> None:
        self._method = method
        self._invoke = invoke
        self._default_timeout_s = default_timeout_s

    def __call__(
        self,
        request: Any = None,
        *,
        timeout: float | None = None,
        metadata: Pairs | None = None,
        wait_for_ready: bool | None = None,
    ) -> OutgoingCall:
        span = telemetry.tracer().start_span(self._method.strip("/"), kind=SpanKind.CLIENT)
        call = self._invoke(
            request,
            timeout=self._default_timeout_s if timeout is None else timeout,
            metadata=outgoing_metadata(metadata, span),
            wait_for_ready=wait_for_ready,
        )
        return OutgoingCall(call, self._method, span)


class OutgoingCall:
    """A call in flight, unary or streaming: await it, iterate over it, or use `read` and `write`.

    Raises errors of `core.errors`. All else of gRPC's call object (`trailing_metadata`, `cancel`, …) is within reach.
    """

    def __init__(self, call: Any, method: str, span: Span) -> None:
        self._call = call
        self._method = method
        self._span = span
        self._began = time.perf_counter()
        self._ended = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._response().__await__()

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            with self._observed():
                async for response in self._call:
                    yield response
        finally:
            # An iteration that is given up gives up the call: the server must not go on for nobody.
            self._call.cancel()
            self._end(StatusCode.CANCELLED)

    async def read(self) -> Any:
        """The next response, or `grpc.aio.EOF`."""
        with self._observed(at_end=False):
            response = await self._call.read()
        if response is EOF:
            self._end(StatusCode.OK)
        return response

    async def _response(self) -> Any:
        with self._observed():
            return await self._call

    @contextmanager
    def _observed(self, *, at_end: bool = True) -> Iterator[None]:
        """Converts the error; ends the span with it, or, *at_end*, with success."""
        try:
            yield
        except AioRpcError as error:
            self._end(error.code())
            raise from_rpc_error(error) from error
        except asyncio.CancelledError:
            self._end(StatusCode.CANCELLED)
            raise
        if at_end:
            self._end(StatusCode.OK)

    def _end(self, code: StatusCode) -> None:
        if self._ended:
            return
        self._ended = True
        metrics.RPC_CALLED.labels(self._method, code.name).observe(time.perf_counter() - self._began)
        self._span.set_attribute("rpc.grpc.status_code", code.value[0])
        if code is not StatusCode.OK:
            self._span.set_status(Status(SpanStatus.ERROR, code.name))
        self._span.end()


def outgoing_metadata(given: Pairs | None, span: Span) -> tuple[tuple[str, str | bytes], ...]:
    """*given*, and what it doesn't name of: trace, correlation id, principal."""
    entries: dict[str, str | bytes] = {}
    if traceparent := telemetry.traceparent(span):
        entries[TRACEPARENT] = traceparent
    if correlation := telemetry.correlation_id():
        entries[CORRELATION_ID] = correlation
    if (principal := current_principal()) is not None:
        entries[ACTOR] = principal_metadata(principal)[1]
    named = tuple(given or ())
    taken = {key for key, _ in named}
    return (*named, *((key, value) for key, value in entries.items() if key not in taken))
