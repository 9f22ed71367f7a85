"""Operations: changes that take time, with the steps of the sagas behind them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from types import ModuleType
from typing import Any, ClassVar

from google.protobuf.message import Message

from cirra.operations.v1 import operations_pb2 as pb
from cirra.operations.v1.operations_pb2_grpc import OperationServiceStub
from cirra_sdk.errors import OperationFailed
from cirra_sdk.resources.collection import DEFAULT_PAGE_SIZE, Readable, name_of

ENDED_BADLY = frozenset({pb.OPERATION_STATE_FAILED, pb.OPERATION_STATE_STUCK})


class Operations(Readable[pb.Operation]):
    """What is, or was, under way."""

    messages: ClassVar[ModuleType] = pb
    stub_class = OperationServiceStub
    kind = "Operation"

    async def list(
        self,
        *,
        page_size: int = DEFAULT_PAGE_SIZE,
        target: Message | str = "",
        state: pb.OperationState.ValueType = pb.OPERATION_STATE_UNSPECIFIED,
        **filters: Any,
    ) -> AsyncGenerator[pb.Operation, None]:
        """All of the project, or those on one resource or in one state."""
        async for operation in super().list(page_size=page_size, target=name_of(target), state=state, **filters):
            yield operation

    async def watch(self, operation: pb.Operation | str) -> AsyncGenerator[pb.Operation, None]:
        """Each change of it until it is done (`done` of the last answer); goes on through restarts of the cloud."""
        request = pb.WatchOperationRequest(name=name_of(operation))
        last: pb.Operation | None = None
        async with aclosing(
            self._transport.resumed(lambda: self._transport.stream(self._stub.WatchOperation, request))
        ) as changes:
            async for change in changes:
                # Who waited for it reads what it did, also from a read model that lags behind the stream.
                self._transport.memory.saw(change.position)
                # After an interruption the present state comes again.
                if change != last:
                    last = change
                    yield change
                if change.done:
                    return

    async def wait(
        self,
        operation: pb.Operation | str,
        *,
        timeout_s: float | None = None,
        on_change: Callable[[pb.Operation], None] | None = None,
    ) -> pb.Operation:
        """The operation once it has succeeded; *on_change* is told of each change.

        Raises OperationFailed when it ends otherwise, or stands still for a person to help (STUCK), and TimeoutError.
        """
        async with asyncio.timeout(timeout_s), aclosing(self.watch(operation)) as changes:
            async for change in changes:
                if on_change is not None:
                    on_change(change)
                if change.state in ENDED_BADLY:
                    raise OperationFailed(change)
                if change.done:
                    return change
        raise AssertionError("a watch ends with an operation that is done")
