"""One server interceptor that runs each RPC, unary or streaming, inside a stack of layers.

A layer is an asynchronous context manager around the call: it sees the call begin, and the error or the end. All of
it happens in the one task in which grpc.aio serves the RPC, so that what a layer puts into a context variable holds for
the handler and is gone with the task. Streams are therefore rewritten to the reader/writer form: an asynchronous
generator may be finalised in another task.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any

import grpc
from grpc import HandlerCallDetails, RpcMethodHandler, StatusCode
from grpc.aio import ServerInterceptor, ServicerContext

from core.rpc.metadata import request_metadata

# Health and reflection are open to whoever may connect, and their calls are noise in traces.
_INFRASTRUCTURE = "/grpc."


@dataclass(slots=True)
class ServerCall:
    """One RPC: `method` is "/package.Service/Method"; `code` is set by the layer that maps errors."""

    method: str
    metadata: dict[str, str | bytes]
    context: ServicerContext[Any, Any]
    code: StatusCode = StatusCode.OK


Layer = Callable[[ServerCall], AbstractAsyncContextManager[None]]
Behaviour = Callable[[Any, Any], Any]


class CallInterceptor(ServerInterceptor):
    """Runs every handler inside *layers*, the first outermost. Handlers must be asynchronous."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = tuple(layers)

    async def intercept_service(
        self,
        continuation: Callable[[HandlerCallDetails], Awaitable[RpcMethodHandler[Any, Any] | None]],
        handler_call_details: HandlerCallDetails,
    ) -> RpcMethodHandler[Any, Any] | None:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(_INFRASTRUCTURE):
            return handler
        return self._wrapped(handler, method)

    def _wrapped(self, handler: Any, method: str) -> RpcMethodHandler[Any, Any]:
        codecs = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(self._unary(handler.unary_unary, method), **codecs)
        if handler.stream_unary:
            return grpc.stream_unary_rpc_method_handler(self._unary(handler.stream_unary, method), **codecs)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(self._stream(handler.unary_stream, method), **codecs)
        return grpc.stream_stream_rpc_method_handler(self._stream(handler.stream_stream, method), **codecs)

    def _unary(self, behaviour: Behaviour, method: str) -> Behaviour:
        async def answer(request: Any, context: ServicerContext[Any, Any]) -> Any:
            async with self._entered(method, context):
                return await behaviour(request, context)

        return answer

    def _stream(self, behaviour: Behaviour, method: str) -> Behaviour:
        async def answer(request: Any, context: ServicerContext[Any, Any]) -> None:
            async with self._entered(method, context):
                await _write_all(behaviour(request, context), context)

        return answer

    def _entered(self, method: str, context: ServicerContext[Any, Any]) -> AbstractAsyncContextManager[None]:
        return _Entered(self._layers, ServerCall(method, request_metadata(context), context))


class _Entered(AbstractAsyncContextManager[None]):
    """All layers around one call."""

    def __init__(self, layers: Sequence[Layer], call: ServerCall) -> None:
        self._layers = layers
        self._call = call
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> None:
        await self._stack.__aenter__()
        try:
            for layer in self._layers:
                await self._stack.enter_async_context(layer(self._call))
        except BaseException as error:
            # A layer refuses the call: those outside of it must see that, as they see a handler's error.
            await self._stack.__aexit__(type(error), error, error.__traceback__)
            raise

    async def __aexit__(self, *error: Any) -> None:
        await self._stack.__aexit__(*error)


async def _write_all(responses: Any, context: ServicerContext[Any, Any]) -> None:
    """Serve a streaming handler of either form: an asynchronous generator, or one that writes by itself."""
    if inspect.isawaitable(responses):
        await responses
        return
    stream: AsyncIterator[Any] = responses
    if not hasattr(stream, "aclose"):
        async for response in stream:
            await context.write(response)
        return
    async with aclosing(stream):  # type: ignore[type-var]
        async for response in stream:
            await context.write(response)
