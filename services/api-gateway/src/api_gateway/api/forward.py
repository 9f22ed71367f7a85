"""Methods that write: checked here, done by the conductor, answered from the view once it has what was done.

CreateFlavor = forwarded(lambda conductor: conductor.compute.CreateFlavor, prepare_flavor, the(FLAVOR))
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from api_gateway.api.call import Call, served
from api_gateway.api.fields import Fields
from api_gateway.api.present import presented
from api_gateway.conductor import Conductor
from api_gateway.views.operation import OPERATION
from api_gateway.views.view import View
from cirra.conductor.v1.commands_pb2 import Accepted
from core.errors import CirraError, Conflict, InvalidArgument, NotFound

# Changes the request, a copy of the caller's, to one with resource names and uids only. Raises InvalidArgument and
# NotFound.
Prepare = Callable[[Any, Call], Awaitable[None]]
Answer = Callable[[Accepted, Call], Awaitable[Any]]
Method = Callable[[Conductor], Callable[..., Awaitable[Any]]]


def forwarded(method: Method, prepare: Prepare, answer: Answer) -> Any:
    """A unary method of a public service: checks, forwards, waits for the read model, answers."""

    @served
    async def write(self: Any, request: Any, call: Call) -> Any:
        command = type(request)()
        command.CopyFrom(request)
        fields = Fields()
        fields.request_id(getattr(request, "request_id", ""))
        fields.check()
        await prepare(command, call)
        try:
            accepted = await accept(call, method, command)
        except (NotFound, InvalidArgument) as error:
            raise call.missing or error from error
        return await answer(accepted, call)

    return write


async def accept(call: Call, method: Method, command: Any) -> Accepted:
    """Sends a command; returns once the read model has what it did."""
    conductor = call.parts.conductor
    accepted: Accepted = await conductor.ask(method(conductor), command)
    call.written = max(call.written, accepted.position)
    await call.caught_up(accepted.position)
    return accepted


def the(view: View[Any]) -> Answer:
    """Answers the resource that was written."""

    async def answer(accepted: Accepted, call: Call) -> Any:
        return await _resource(call, view, accepted.uid)

    return answer


async def the_operation(accepted: Accepted, call: Call) -> Any:
    """Answers the operation that was started."""
    return await _resource(call, OPERATION, accepted.operation_id)


def the_operations(response_class: type[Any]) -> Answer:
    """Answers all operations that were started."""

    async def answer(accepted: Accepted, call: Call) -> Any:
        return response_class(operations=[await _resource(call, OPERATION, uid) for uid in accepted.operation_ids])

    return answer


def nothing(response_class: type[Any]) -> Answer:
    """Answers an empty message."""

    async def answer(accepted: Accepted, call: Call) -> Any:
        return response_class()

    return answer


def named(view: View[Any], field: str = "name") -> Prepare:
    """The request names one resource; the conductor is told its resource name.

    What a request has deleted is not there when it comes again. The conductor is then asked with its id alone, which
    can do nothing but tell the answer that it has had.
    """

    async def prepare(command: Any, call: Call) -> None:
        try:
            row = await call.reader.find(view, getattr(command, field), field=field)
        except NotFound as error:
            if not getattr(command, "request_id", ""):
                raise
            call.missing = error
            command.ClearField(field)
        else:
            setattr(command, field, row.resource.name)

    return prepare


def updated(view: View[Any], field: str) -> Prepare:
    """The request has a resource in a field, named, with what of it shall be otherwise (AIP-134).

    Its etag becomes the position up to which its caller knows the resource: the conductor decides by that.
    """

    async def prepare(command: Any, call: Call) -> None:
        wanted = getattr(command, field)
        try:
            row = await call.reader.find(view, wanted.name, field=f"{field}.name")
        except NotFound as error:
            if not command.request_id:
                raise
            call.missing = error
            wanted.ClearField("name")
            return
        wanted.name = row.resource.name
        if command.etag:
            [shown] = await presented(call.reader, view, [row])
            if command.etag != shown.etag:
                raise Conflict(
                    f"{row.resource.name} has changed since it was read",
                    reason="ETAG_MISMATCH",
                    retryable=False,
                    remedy="read it again, and decide anew",
                )
            command.etag = str(row.update_position)

    return prepare


async def _resource(call: Call, view: View[Any], uid: str) -> Any:
    row = await call.reader.of_uid(view, uid)
    if row is None:
        raise CirraError(f"{view.title} {uid} was accepted at {call.written} and is not in the read model")
    [resource] = await presented(call.reader, view, [row])
    return resource
