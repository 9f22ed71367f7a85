"""What an operation does, line by line, as it happens; and afterwards, from the event log, with durations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from cirra.events.v1.events_pb2 import Timeline
from cirra.operations.v1.operations_pb2 import (
    STEP_STATE_FAILED,
    STEP_STATE_SUCCEEDED,
    STEP_STATE_UNDONE,
    Operation,
    OperationStep,
)

_WORDS = {STEP_STATE_SUCCEEDED: "done", STEP_STATE_FAILED: "FAILED", STEP_STATE_UNDONE: "undone"}
_BAR_CHARACTERS = 24


@dataclass(slots=True)
class StepTeller:
    """Tells each step of an operation once when it ends; give `on_change` to `operations.wait`."""

    tell: Callable[[str], None]
    _told: set[tuple[str, str, int, int]] = field(default_factory=set)

    def on_change(self, operation: Operation) -> None:
        for step in operation.steps:
            key = (step.step, step.item, step.attempt, int(step.state))
            if step.state in _WORDS and key not in self._told:
                self._told.add(key)
                self.tell(_step_line(step))


def _step_line(step: OperationStep) -> str:
    seconds = step.end_time.ToNanoseconds() / 1e9 - step.start_time.ToNanoseconds() / 1e9
    said = step.error.message or step.detail
    return f"  {step.step:<14} {_WORDS[step.state]:<6} {max(seconds, 0):7.3f} s  {said}".rstrip()


def timeline_lines(timeline: Timeline) -> Iterator[str]:
    """A waterfall: when, how long, where on the way of its steps, what, by whom. What comes after the last step is
    drawn at its end: a guest takes much longer to boot than the cloud takes to build it.
    """
    whole_ms = max((entry.offset_ms + entry.duration_ms for entry in timeline.entries if entry.duration_ms), default=1)
    for entry in timeline.entries:
        begin = min(entry.offset_ms * _BAR_CHARACTERS // whole_ms, _BAR_CHARACTERS - 1)
        length = entry.duration_ms * _BAR_CHARACTERS // whole_ms
        bar = (" " * begin + ("█" * max(1, length) if entry.duration_ms else "·"))[:_BAR_CHARACTERS]
        duration = f"{entry.duration_ms / 1000:.3f} s" if entry.duration_ms else ""
        failed = "FAILED " if entry.failed else ""
        yield (
            f"  {entry.offset_ms / 1000:8.3f} s  {bar:<{_BAR_CHARACTERS}}  {duration:>9}  {entry.title:<24} "
            f"{failed}{entry.detail}  [{entry.source}]"
        )
