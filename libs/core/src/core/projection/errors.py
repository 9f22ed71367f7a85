"""What readers of the log, and readers of read models, have to be told."""

from __future__ import annotations

from core.errors import CirraError, Unavailable


class HistoryChanged(CirraError):
    """The log no longer holds the event read last: it was restored. What was derived from it must be rebuilt."""

    reason = "HISTORY_CHANGED"

    def __init__(self, position: int) -> None:
        super().__init__(f"the log has another history: what it holds at {position} is not what was read there")
        self.position = position


class ProjectionHalted(Unavailable):
    """The read model stands still before an event that it can't take; what it shows is as of `checkpoint`."""

    reason = "PROJECTION_HALTED"

    def __init__(self, name: str, position: int, checkpoint: int, error: str) -> None:
        super().__init__(
            f"projection {name!r} halted at event {position}: {error}",
            remedy="mend the projection and restart it, or rebuild it",
            metadata={"projection": name, "position": str(position), "checkpoint": str(checkpoint)},
        )
        self.name = name
        self.position = position
        self.checkpoint = checkpoint
        self.error = error


class CheckpointMoved(CirraError):
    """Somebody else has moved, halted or reset the checkpoint: start again from what it says now."""

    reason = "CHECKPOINT_MOVED"
    retryable = True


class ApplyFailed(Exception):
    """The projection raised on this event, or on a batch that ends with it; the cause is chained."""

    def __init__(self, position: int, error: Exception) -> None:
        super().__init__(f"event {position}: {type(error).__name__}: {error}")
        self.position = position
