"""The steps of an operation, as they happen: one line for each that ended, with how long it took."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from cirra_sdk.cli.text import duration_text

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp
    from rich.console import Console
    from rich.status import Status
    from rich.text import Text

    from cirra.operations.v1.operations_pb2 import Operation, OperationStep

_MARKS = {
    "SUCCEEDED": ("✓", "green"),
    "FAILED": ("✗", "bold red"),
    "UNDONE": ("↶", "yellow"),
    "RUNNING": ("…", ""),
    "STUCK": ("!", "bold red"),
}


class StepPrinter:
    """Give it each change of an operation. Where the console is a terminal, what runs now is shown below, moving."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told: dict[tuple[str, str, int], str] = {}
        self._status: Status | None = None

    def __enter__(self) -> StepPrinter:
        if self._console.is_terminal:
            self._status = self._console.status("")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def __call__(self, operation: Operation) -> None:
        from cirra_sdk.cli.plain import enum_text

        for step in operation.steps:
            key = (step.step, step.item, step.attempt)
            state = enum_text(step, "state")
            if state == "UNDONE" and step.HasField("error") and self._told.get(key) not in ("FAILED", "UNDONE"):
                self._console.print(step_line(step, "FAILED"))  # both came in one change
            if state != self._told.get(key) and state != "RUNNING":
                self._console.print(step_line(step))
            self._told[key] = state
        if self._status is not None:
            running = [step for step in operation.steps if enum_text(step, "state") == "RUNNING"]
            self._status.update(_name(running[-1]) if running else operation.kind)
        if operation.done and enum_text(operation, "state") == "SUCCEEDED":
            took = duration_text(milliseconds(operation.create_time, operation.end_time))
            self._console.print(f"{operation.kind}: done in {took}")


def step_line(step: OperationStep, state: str = "") -> Text:
    """A mark, the step, how long it took, what it did or why it failed. `state`: another than its last one."""
    from rich.text import Text

    from cirra_sdk.cli.plain import enum_text

    state = state or enum_text(step, "state")
    mark, style = _MARKS.get(state, (" ", ""))
    took = duration_text(milliseconds(step.start_time, step.end_time)) if step.HasField("end_time") else ""
    told = step.detail
    if state in ("FAILED", "STUCK"):
        told = f"{step.error.reason}: {step.error.message}"
    elif state == "UNDONE":
        told = "undone"
    return Text.assemble((f"  {mark} ", style), f"{_name(step):<28} {took:>9}  {told}".rstrip())


def milliseconds(begin: Timestamp, end: Timestamp) -> float:
    return (end.ToNanoseconds() - begin.ToNanoseconds()) / 1e6


def short_item(item: str) -> str:
    """Enough of a name or a uid to tell the items of one operation apart; uids that begin alike differ at the end."""
    last = item.rpartition("/")[2]
    return last if len(last) <= 12 else f"…{last[-8:]}"


def _name(step: OperationStep) -> str:
    item = f" {short_item(step.item)}" if step.item else ""
    attempt = f" (attempt {step.attempt})" if step.attempt > 1 else ""
    return f"{step.step}{item}{attempt}"
