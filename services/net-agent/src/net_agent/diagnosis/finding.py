"""What was found out about one hop."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """NOT_APPLICABLE: the path has no such part. UNKNOWN: it could not be found out."""

    OK = "ok"
    BROKEN = "broken"
    UNKNOWN = "unknown"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class Finding:
    """`observed`: what was seen, for a person; `reason`: stable; `remedy`: of what is broken, what to do.

    `others`: ports of other hosts, one of each that may know more.
    """

    state: State
    observed: str
    reason: str = ""
    remedy: str = ""
    others: tuple[str, ...] = ()


def ok(observed: str) -> Finding:
    return Finding(State.OK, observed)


def broken(reason: str, observed: str, remedy: str, *, others: tuple[str, ...] = ()) -> Finding:
    return Finding(State.BROKEN, observed, reason, remedy, others)


def unknown(reason: str, observed: str, *, others: tuple[str, ...] = ()) -> Finding:
    return Finding(State.UNKNOWN, observed, reason, others=others)


def not_applicable(observed: str) -> Finding:
    return Finding(State.NOT_APPLICABLE, observed)
