"""What may be done to an instance, and when: one table. docs/reference/states.md is written from it (`make docs`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from cirra.compute.v1.compute_pb2 import InstanceStatus
from core.errors import FailedPrecondition


class State(Enum):
    """The status of an instance; ERROR is two: with a guest on a host, and without one, since its create failed."""

    BUILD = "BUILD"
    ACTIVE = "ACTIVE"
    SHUTOFF = "SHUTOFF"
    ERROR = "ERROR"
    NOT_BUILT = "ERROR, never built"
    DELETED = "DELETED"

    @property
    def status(self) -> InstanceStatus.ValueType:
        """As the public API has it."""
        name = State.ERROR.value if self is State.NOT_BUILT else self.value
        return InstanceStatus.Value(f"INSTANCE_STATUS_{name}")


class Action(Enum):
    """By its name in the command line."""

    START = "start"
    STOP = "stop"
    REBOOT = "reboot"
    REBOOT_HARD = "reboot --hard"
    ADD_PORT = "add-port, add-network"
    REMOVE_PORT = "remove-port"
    UPDATE = "set, unset"
    LOCK = "lock"
    UNLOCK = "unlock"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Rule:
    """`states`: those in which it is allowed. `idle`: only while no task is at work. `guarded`: a lock keeps the
    project's members from it. `remedy`: state → what to do there instead."""

    states: frozenset[State]
    idle: bool
    guarded: bool
    remedy: Mapping[State, str]


_ALIVE = frozenset(State) - {State.DELETED}
_BUILDING = "wait until it is built: cirra operation list"
_DELETE_IT = "delete it: it has no guest"
_GUEST = {State.BUILD: _BUILDING, State.NOT_BUILT: _DELETE_IT}
_PLUG = Rule(
    frozenset({State.ACTIVE, State.SHUTOFF}),
    idle=True,
    guarded=True,
    remedy={**_GUEST, State.ERROR: "reboot it with --hard first"},
)

RULES: Mapping[Action, Rule] = {
    Action.START: Rule(
        frozenset({State.SHUTOFF}),
        idle=True,
        guarded=True,
        remedy={**_GUEST, State.ACTIVE: "it runs already", State.ERROR: "reboot it with --hard"},
    ),
    Action.STOP: Rule(
        frozenset({State.ACTIVE, State.ERROR}),
        idle=True,
        guarded=True,
        remedy={**_GUEST, State.SHUTOFF: "it is off already"},
    ),
    Action.REBOOT: Rule(
        frozenset({State.ACTIVE}),
        idle=True,
        guarded=True,
        remedy={**_GUEST, State.SHUTOFF: "start it", State.ERROR: "reboot it with --hard"},
    ),
    Action.REBOOT_HARD: Rule(
        frozenset({State.ACTIVE, State.SHUTOFF, State.ERROR}), idle=True, guarded=True, remedy=_GUEST
    ),
    Action.ADD_PORT: _PLUG,
    Action.REMOVE_PORT: _PLUG,
    Action.UPDATE: Rule(_ALIVE, idle=False, guarded=True, remedy={}),
    Action.LOCK: Rule(_ALIVE, idle=False, guarded=False, remedy={}),
    Action.UNLOCK: Rule(_ALIVE, idle=False, guarded=False, remedy={}),
    Action.DELETE: Rule(_ALIVE, idle=False, guarded=True, remedy={}),
}


def require_allowed(action: Action, what: str, state: State, *, busy: bool) -> None:
    """Raises FailedPrecondition, naming the status and what to do. `what`: "instance 0190…"; `busy`: a task is at work
    on it, or it shall be deleted."""
    rule = RULES[action]
    if state not in rule.states:
        raise FailedPrecondition(
            f"{what} is {state.value}: {action.value} is not possible",
            reason="INVALID_STATUS",
            remedy=rule.remedy.get(state, "see docs/reference/states.md"),
            metadata={"status": state.value},
        )
    if rule.idle and busy:
        raise FailedPrecondition(
            f"{what} is {state.value}, and busy with another task: {action.value} is not possible",
            reason="INSTANCE_BUSY",
            remedy="wait until its task state is empty: cirra server show",
            metadata={"status": state.value},
        )


def require_unlocked(action: Action, what: str, reason: str) -> None:
    """Raises FailedPrecondition for what a lock guards. `reason`: why it is locked."""
    if RULES[action].guarded:
        raise FailedPrecondition(
            f"{what} is locked{f' ({reason})' if reason else ''}: {action.value} is not possible",
            reason="INSTANCE_LOCKED",
            remedy="unlock it first: cirra server unlock",
        )


def states_page() -> str:
    """The table for people, in Markdown."""
    states = [state for state in State if state is not State.DELETED]
    lines = [
        "# What may be done to an instance, and when\n",
        "Generated from `conductor/compute/actions.py` by `make docs`. What is not possible is refused with",
        "`FAILED_PRECONDITION`: `INVALID_STATUS`, `INSTANCE_BUSY` or `INSTANCE_LOCKED`, and what to do instead.\n",
        f"| `cirra server …` | {' | '.join(state.value for state in states)} | while a task is at work | locked |",
        f"|---|{'---|' * (len(states) + 2)}",
    ]
    for action, rule in RULES.items():
        cells = ["yes" if state in rule.states else "-" for state in states]
        cells += ["-" if rule.idle else "yes", "administrators" if rule.guarded else "yes"]
        lines.append(f"| `{action.value}` | {' | '.join(cells)} |")
    lines += [
        "",
        "A task is at work while `task_state` is not empty; nobody starts one on an instance that shall be deleted.",
        "What an administrator has locked, only an administrator unlocks. A guest that shuts itself down makes its",
        "instance SHUTOFF, and stays off until it is started. DELETED is the end: the API answers `NOT_FOUND`.",
    ]
    return "\n".join(lines) + "\n"
