"""`cirra operation`, `cirra event` and `cirra timeline`: what is under way, and what happened."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import typer

from cirra_sdk.cli import named, options
from cirra_sdk.cli.command import Session, command, group
from cirra_sdk.cli.completing import EVERYTHING, names_of, words
from cirra_sdk.cli.operation_view import show
from cirra_sdk.cli.report import UsageError
from cirra_sdk.cli.resource import one, resource_name
from cirra_sdk.cli.waiting import take, waited

if TYPE_CHECKING:
    from cirra.events.v1.events_pb2 import Event

operations = group(
    "operation",
    "Changes that take time, step by step: sagas. `cirra saga` is the same; to retry or resolve is for administrators.",
)
events = group("event", "The event log.")

Resource = Annotated[
    str, typer.Option("--resource", help="Of this thing: a name, or a uid.", autocompletion=names_of(*EVERYTHING))
]
After = Annotated[int, typer.Option("--after", metavar="POSITION", min=0, help="What came after this position.")]


@command(operations, "list")
async def list_operations(
    session: Session,
    *,
    target: Annotated[
        str, typer.Option(help="On this thing: a name, or a uid.", autocompletion=names_of(*EVERYTHING))
    ] = "",
    state: Annotated[
        str,
        typer.Option(
            help="RUNNING, UNWINDING, SUCCEEDED, FAILED or STUCK.",
            autocompletion=words("RUNNING", "UNWINDING", "SUCCEEDED", "FAILED", "STUCK"),
        ),
    ] = "",
    stuck: Annotated[
        bool, typer.Option("--stuck", help="Those that wait for a person: where, since when, why.")
    ] = False,
    limit: options.Limit = 0,
) -> None:
    """List operations, the newest first."""
    from cirra.operations.v1.operations_pb2 import OperationState
    from cirra_sdk.cli.tables import OPERATIONS, STUCK_OPERATIONS

    if stuck and state.upper() not in ("", "STUCK"):
        raise UsageError(f"--stuck and --state {state}: give one of them")
    found = session.client.operations.list(
        target=await resource_name(session, target),
        state=options.enum(OperationState, "STUCK" if stuck else state, "--state"),
    )
    session.output.resources(await take(found, limit), STUCK_OPERATIONS if stuck else OPERATIONS)


@command(operations, "show")
async def show_operation(session: Session, *, name: named.Operation, as_of: options.AsOf = "") -> None:
    """Show an operation with its steps; of a stuck one where it stands, why, and what can be done."""
    show(session, await one(session, session.client.operations, name, as_of))


@command(operations, "watch")
async def watch_operation(session: Session, *, name: named.Operation, timeout_s: options.Timeout = 0) -> None:
    """Print each step as it happens, until the operation is done; then show it. Fails if the operation does."""
    show(session, await waited(session, name, timeout_s))


@command(operations, "retry")
async def retry_operation(
    session: Session,
    *,
    name: named.Operation,
    reason: Annotated[str, typer.Option(help="What was mended: it is kept in the log.")] = "",
) -> None:
    """Have a stuck operation go on where it stands, once its cause is mended."""
    operation = await session.client.operations.retry(name, reason)
    show(session, operation)
    session.output.note(f"it goes on; follow it: cirra operation watch {operation.uid}")


@command(operations, "resolve")
async def resolve_operation(
    session: Session,
    *,
    name: named.Operation,
    reason: Annotated[str, typer.Option(help="Why it is given up, and what was done by hand: others will ask.")],
) -> None:
    """End a stuck operation for good: its target is in ERROR then, or deleted; what is left to you is told."""
    show(session, await session.client.operations.resolve(name, reason))


@command(operations, "cancel")
async def cancel_operation(
    session: Session, *, name: named.Operation, reason: Annotated[str, typer.Option(help="Why.")] = ""
) -> None:
    """Have a running operation undone."""
    operation = await session.client.operations.cancel(name, reason)
    show(session, operation)
    session.output.note(f"it is being undone; follow it: cirra operation watch {operation.uid}")


@command(events, "list", watch=False)
async def list_events(
    session: Session,
    *,
    resource: Resource = "",
    kind: Annotated[str, typer.Option("--type", help="On things of this type: instance, port, saga, …")] = "",
    after: After = 0,
    limit: options.Limit = 100,
) -> None:
    """List entries of the log, in order."""
    from cirra_sdk.cli.tables import EVENTS

    found = await take(
        session.client.events.list(
            resource=await resource_name(session, resource), aggregate_type=kind, after_position=after
        ),
        limit,
    )
    session.output.resources(found, EVENTS)
    if limit and len(found) == limit:
        session.output.note(f"there may be more: --after {found[-1].position}, or --limit 0")


@command(events, "watch")
async def watch_events(session: Session, *, resource: Resource = "", after: After = 0) -> None:
    """Print entries of the log as they come, until interrupted."""
    name = await resource_name(session, resource)
    async with aclosing(session.client.events.watch(resource=name, after_position=after)) as found:
        async for event in found:
            session.output.stream(event, _line(event))


async def show_timeline(session: Session, *, resource: named.Resource) -> None:
    """Show all that happened to a thing and because of it: when, how long, what, by whom."""
    from cirra_sdk.cli.waterfall import waterfall

    found = await session.client.timeline.get(await resource_name(session, resource))
    session.output.resource(found, waterfall(found, session.output.out.width))
    if found.trace_id:
        session.output.note(f"trace {found.trace_id}")


def _line(event: Event) -> str:
    from cirra_sdk.cli.plain import time_text

    name = event.type.rpartition(".")[2]
    return f"{event.position:>8}  {time_text(event.time)}  {name:<26} {event.aggregate_type} {event.aggregate_id}"
