"""What the checker of invariants finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Invariant(Enum):
    """What must be true of a cell at any moment that is not in the middle of something."""

    LOG = "positions and versions have no gaps, times never decrease"
    CONSTRAINTS = "constraint rows are what the events imply"
    STREAM = "stream EVENTS holds the log, its sequence is the position"
    READ_MODEL = "a read model is what a rebuild from zero gives"
    SAGA = "a saga that has not ended has a living runner or waits for a person"
    CLAIM = "capacity is held by living instances where they are, or by guests that are still to be cleaned"
    PORT = "a port's device lives; an address or MAC in use has a living port"
    USAGE = "what is counted is what there is"
    HOST = "a host has the guests and ports that were made there, and nothing else"
    SECRET = "of what is deleted, the key of its secrets is gone"
    FILE = "an image that is active has its blob, whole"


@dataclass(frozen=True, slots=True)
class Violation:
    """`subject`: what it is about, a name or an id; `text`: what is wrong with it, for a person."""

    invariant: Invariant
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant.name}: {self.subject}: {self.text}"
