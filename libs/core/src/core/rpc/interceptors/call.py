"""Every RPC of a server, unary or streaming, within layers.

A layer wraps the handler of a call: it sees the call begin, and the error or the end. All of it happens in the one task
in which grpc.aio serves the RPC, so that what a layer puts into a context variable holds for the handler and is gone
with the task. Streams are therefore rewritten to the reader/writer form: an asynchronous generator may be finalised in
another task.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import reduce
from typing import Any

import grpc
from grpc import RpcMethodHandler, StatusCode
from grpc.aio import ServicerContext

from core.rpc.metadata import request_metadata


@dataclass(slots=True)
class ServerCall:
    """One RPC: `method` is "/package.Service/Method"; `code` is set by the layer that maps errors."""

    method: str
    metadata: dict[str, str | bytes]
    context: ServicerContext[Any, Any]
    code: StatusCode = StatusCode.OK


# (the call; its request, or the iterator of its requests). Answers the response; None where it writes them by itself.
Handler = Callable[[ServerCall, Any], Awaitable[Any]]
# From a handler to one that does something around it.
Layer = Callable[[Handler], Handler]
Behaviour = Callable[[Any, Any], Any]


def within(layers: Sequence[Layer], handler: Any, method: str) -> RpcMethodHandler[Any, Any]:
    """gRPC's *handler* of a method ("/package.Service/Method"), inside of *layers*, the first outermost.

    What it calls must be asynchronous.
    """
    codecs = {
        "request_deserializer": handler.request_deserializer,
        "response_serializer": handler.response_serializer,
    }
    if handler.unary_unary:
        return grpc.unary_unary_rpc_method_handler(_layered(layers, _answer(handler.unary_unary), method), **codecs)
    if handler.stream_unary:
        return grpc.stream_unary_rpc_method_handler(_layered(layers, _answer(handler.stream_unary), method), **codecs)
    if handler.unary_stream:
        return grpc.unary_stream_rpc_method_handler(_layered(layers, _stream(handler.unary_stream), method), **codecs)
    return grpc.stream_stream_rpc_method_handler(_layered(layers, _stream(handler.stream_stream), method), **codecs)


def _layered(layers: Sequence[Layer], handler: Handler, method: str) -> Behaviour:
    outermost = reduce(lambda inner, layer: layer(inner), reversed(layers), handler)

    async def behaviour(request: Any, context: ServicerContext[Any, Any]) -> Any:
        return await outermost(ServerCall(method, request_metadata(context), context), request)

    return behaviour


def _answer(behaviour: Behaviour) -> Handler:
    """One response."""

    async def handler(call: ServerCall, request: Any) -> Any:
        return await behaviour(request, call.context)

    return handler


def _stream(behaviour: Behaviour) -> Handler:
    """Any number of responses, by either form of servicer: an asynchronous generator, or one that writes itself."""

    async def handler(call: ServerCall, request: Any) -> None:
        responses = behaviour(request, call.context)
        if inspect.isawaitable(responses):
            await responses
            return
        stream: AsyncIterator[Any] = responses
        if not hasattr(stream, "aclose"):
            async for response in stream:
                await call.context.write(response)
            return
        async with aclosing(stream):  # type: ignore[type-var]
            async for response in stream:
                await call.context.write(response)

    return handler
