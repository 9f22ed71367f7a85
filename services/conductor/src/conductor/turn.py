"""Who acts in a saga: an attempt of a task. What belongs to one that was left comes too late, and is refused."""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import FailedPrecondition


@dataclass(frozen=True, slots=True)
class Turn:
    """`attempt` counts from 1 within the task."""

    task_id: str
    attempt: int

    def require_beyond(self, left_attempt: int) -> None:
        """Raises FailedPrecondition when this attempt was left: its runner was paused, and another has undone it."""
        if self.attempt <= left_attempt:
            raise FailedPrecondition(
                f"attempt {self.attempt} of task {self.task_id} was left already", reason="ATTEMPT_LEFT"
            )
