"""How `operation show` prints one: what it is, its steps, and, when it stands still, all that helps to get it going."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cirra.operations.v1.operations_pb2 import Operation, OperationError
    from cirra_sdk.cli.command import Session


def show(session: Session, operation: Operation) -> None:
    """Prints it in the format asked for."""
    session.output.resource(operation, *_tables(operation))


def _tables(operation: Operation) -> Iterator[Any]:
    from cirra_sdk.cli.output import pairs_table
    from cirra_sdk.cli.steps import step_line

    yield pairs_table([fact for fact in _facts(operation) if fact[1]])
    for step in operation.steps:
        yield step_line(step)
    if operation.HasField("error"):
        yield from _error("fault", operation.error)
    if operation.HasField("stuck") and not operation.done:
        yield from _stuck(operation)
    if operation.HasField("resolution"):
        yield from _resolution(operation)


def _facts(operation: Operation) -> Iterator[tuple[str, object]]:
    from cirra_sdk.cli.plain import enum_text, time_text

    yield "ID", operation.uid
    yield "Kind", operation.kind
    yield "State", enum_text(operation, "state")
    yield "Target", operation.target
    yield "Created", time_text(operation.create_time)
    yield "Ended", time_text(operation.end_time)


def _error(title: str, error: OperationError) -> Iterator[Any]:
    from rich.text import Text

    host = f" on {error.host}" if error.host else ""
    yield Text(f"{title}:  {error.message} ({error.reason}{host})", style="bold red")
    if error.remedy:
        yield Text(f"remedy: {error.remedy}")


def _stuck(operation: Operation) -> Iterator[Any]:
    from rich.text import Text

    from cirra_sdk.cli.plain import enum_text, time_text
    from cirra_sdk.cli.tables import stuck_step

    stuck = operation.stuck
    host = f" on {stuck.host}" if stuck.host else ""
    retried = f", retried by a person {stuck.retries}x" if stuck.retries else ""
    yield Text(
        f"stuck:  at {stuck_step(operation)}{host}, since {time_text(stuck.since)}; tried {stuck.tries}x{retried}"
    )
    if stuck.error != operation.error:
        yield from _error("why", stuck.error)
    if enum_text(operation, "state") == "STUCK":
        yield Text(
            f"to do:  mend the cause, then: cirra operation retry {operation.uid}\n"
            f'        or give it up: cirra operation resolve {operation.uid} --reason "…"'
        )


def _resolution(operation: Operation) -> Iterator[Any]:
    from rich.text import Text

    from cirra_sdk.cli.plain import time_text

    resolution = operation.resolution
    yield Text(f"ended by {resolution.user_id} at {time_text(resolution.time)}: {resolution.reason}")
    for left in resolution.left:
        yield Text(f"left to you: {left}", style="bold yellow")
    if not resolution.left:
        yield Text("nothing is left of it on any host")
