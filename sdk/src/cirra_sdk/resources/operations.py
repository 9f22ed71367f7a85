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
from cirra_sdk.resources.collection import DEFAULT_PAGE_SIZE, Readable, name_of, request_id_or_new

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
        """All of the project, or those on one resource or in one state; the newest first."""
        async for operation in super().list(page_size=page_size, target=name_of(target), state=state, **filters):
            yield operation

    async def retry(
        self, operation: pb.Operation | str, reason: str = "", *, request_id: str | None = None
    ) -> pb.Operation:
        """A stuck one goes on where it stands. Administrators. Raises FailedPrecondition when it is not stuck."""
        return await self._intervene("Retry", operation, reason, request_id)

    async def resolve(
        self, operation: pb.Operation | str, reason: str, *, request_id: str | None = None
    ) -> pb.Operation:
        """Ends a stuck one for good; what is left to the person is in `resolution.left` of the answer.

        Administrators. Raises FailedPrecondition when it is not stuck.
        """
        return await self._intervene("Resolve", operation, reason, request_id)

    async def cancel(
        self, operation: pb.Operation | str, reason: str = "", *, request_id: str | None = None
    ) -> pb.Operation:
        """A running one is undone. Administrators. Raises FailedPrecondition when that is not possible (any more)."""
        return await self._intervene("Cancel", operation, reason, request_id)

    async def _intervene(
        self, verb: str, operation: pb.Operation | str, reason: str, request_id: str | None
    ) -> pb.Operation:
        changed: pb.Operation = await self._call(
            f"{verb}Operation", name=name_of(operation), reason=reason, request_id=request_id_or_new(request_id)
        )
        return changed

    def watch(self, operation: pb.Operation | str) -> AsyncGenerator[pb.Operation, None]:
        """Each change of it until it is done (`done` of the last answer); goes on through restarts of the cloud."""
        return self._watch(pb.WatchOperationRequest(name=name_of(operation)))

    async def _watch(self, request: pb.WatchOperationRequest) -> AsyncGenerator[pb.Operation, None]:
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
        # A cloud that is older tells each change all the same.
        request = pb.WatchOperationRequest(name=name_of(operation), settled_only=on_change is None)
        async with asyncio.timeout(timeout_s), aclosing(self._watch(request)) as changes:
            async for change in changes:
                if on_change is not None:
                    on_change(change)
                if change.state in ENDED_BADLY:
                    raise OperationFailed(change)
                if change.done:
                    return change
        raise AssertionError("a watch ends with an operation that is done")
