"""What a saga is: typed parameters and a table of steps. One file per saga holds nothing else but the steps' code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from cirra.operations.v1 import operations_pb2
from core.aggregate import Aggregate
from core.errors import CirraError

P = TypeVar("P", bound=Message)
M = TypeVar("M", bound=Message)

StepKey = tuple[str, str]  # (step, item)


class StepError(CirraError):
    """A step's effect failed for good. `reschedule`: the saga may try again from its restart step, elsewhere."""

    reason = "STEP_FAILED"

    def __init__(
        self, message: str, *, reason: str = "STEP_FAILED", remedy: str = "", reschedule: bool = False
    ) -> None:
        super().__init__(message, reason=reason, remedy=remedy)
        self.reschedule = reschedule


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext(Generic[P]):
    """What a step's `do` and `undo` are given.

    `services`: the conductor's clients and repositories. `error`: why it is undone; `failures`: why this
    and earlier attempts failed, oldest first. `touch()`: progress was made,
    the deadline starts anew. `describe(text)`: a few words for the timeline. `on_host(name)`: where the effect is at
    work from here on, for who has to find out why it fails. `since`: a position that the log had reached when this
    replica took the run up: what its steps remember of others must be at least of then (`Repository.recall`).
    `unsaved`: given to an `opening`, and to a `do` that only decides: by id, what the step before has changed, and what
    is saved together with it. It may be changed further. `opened`: given to a `do`: what its opening has changed, as it
    is in the log now. It is true for a moment: who takes it out leaves nothing for when the `do` is tried again.
    """

    saga_id: UUID
    params: P
    services: Any
    step: str
    item: str
    attempt: int
    results: Mapping[StepKey, AnyMessage]
    earlier: tuple[tuple[StepKey, AnyMessage], ...] = ()
    error: operations_pb2.OperationError | None = None
    failures: tuple[operations_pb2.OperationError, ...] = ()
    touch: Callable[[], None] = lambda: None
    describe: Callable[[str], None] = lambda text: None
    on_host: Callable[[str], None] = lambda name: None
    since: int = 0
    unsaved: Mapping[UUID, Aggregate] = field(default_factory=dict)
    opened: list[Aggregate] = field(default_factory=list)

    def result(self, step: str, message_class: type[M], item: str = "") -> M:
        """What an earlier step gave; KeyError if it has not succeeded."""
        found = self.find_result(step, message_class, item)
        if found is None:
            raise KeyError(f"step {step} of saga {self.saga_id} has no result")
        return found

    def find_result(self, step: str, message_class: type[M], item: str = "") -> M | None:
        packed = self.results.get((step, item))
        return None if packed is None else _unpack(packed, message_class)

    def earlier_results(self, step: str, message_class: type[M]) -> list[M]:
        """What a step gave in the attempts before this one, oldest first."""
        return [_unpack(packed, message_class) for (name, _), packed in self.earlier if name == step]


@dataclass(frozen=True, slots=True)
class Abandoned:
    """How a stuck run is left behind that a person gives up.

    `changed`: aggregates whose events are saved in the append that ends the run: its target at rest, what it held given
    back. `left`: what the cloud could not take back, one thing each, in words that tell where it is and what to do.
    """

    changed: tuple[Aggregate, ...] = ()
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Together:
    """What a `do` may give: its result, and aggregates that are saved in the append that says that it succeeded.

    If others have changed them meanwhile, the step is done again. `settled` is told whether they were saved, unless the
    run goes on without them because the step has failed after all.
    """

    changed: tuple[Aggregate, ...]
    result: Message | None = None
    settled: Callable[[bool], None] = lambda saved: None


Do = Callable[[StepContext[P]], Awaitable[Message | Together | None]]
Opening = Callable[[StepContext[P]], Awaitable[tuple[Aggregate, ...]]]
Undo = Callable[[StepContext[P]], Awaitable[None]]
Abandon = Callable[[StepContext[P]], Awaitable[Abandoned]]


async def taken_at_start(context: StepContext[Any]) -> None:
    """The `do` of a step whose effect is in the append that starts the run; such steps come first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Generic[P]):
    """One effect and how to take it back. Both may be repeated; the undo of what never happened succeeds.

    `each`: the name of a repeated string field of the parameters: the step runs once per item.
    `deadline`: of one run of `do`, renewed by progress up to `deadline_cap`; it stands still while the bus is away.
    `pivot`: once it has succeeded the saga only goes forward.
    `opening`: what `do` begins with, where that is to change aggregates: they are saved in the append that says that
    the step starts. It spares an append, and no more: `do` does the same where it finds it undone. It raises before it
    changes anything; why, `do` will find out again.
    `beside`: the earliest step, before it or it itself, that its `do` may run at the same time as. They start in one
    append; they must change different aggregates; when one fails, all of them are undone.
    `formerly`: steps of earlier versions of the saga whose work this one does: what a run has begun under such a name
    is undone as this step is, and is done, whole, under its own.
    `only_decides`: `do` reads, and gives what to save (`Together`); nothing has to be recorded before it, not even what
    the step before has changed (`StepContext.unsaved`).
    """

    name: str
    do: Do[P]
    undo: Undo[P] | None = None
    no_undo: str = ""
    each: str = ""
    deadline: timedelta = timedelta(seconds=60)
    deadline_cap: timedelta = timedelta(minutes=30)
    pivot: bool = False
    opening: Opening[P] | None = None
    beside: str = ""
    only_decides: bool = False
    formerly: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.undo is None) == (not self.no_undo):
            raise TypeError(f"step {self.name}: give an undo, or say in no_undo why there is none")
        if self.beside and (self.pivot or self.only_decides or self.do is taken_at_start):
            raise TypeError(f"step {self.name} can't run beside another: it has no effect, or is the pivot")


@dataclass(frozen=True, slots=True, kw_only=True)
class Saga(Generic[P]):
    """`restart_from`: the step from which another attempt is made after a failure that may go better elsewhere.

    `abandon`: what is done when a person resolves a stuck run. Its context is that of the step where the run stands:
    without an error it was going forward, and its last failure is why it stands. It waits for no host, may be repeated,
    and may be followed by a retry instead of the end.
    Without it a resolved run leaves its target as it is: for sagas whose targets have no state of their own.
    """

    name: str
    params: type[P]
    steps: tuple[Step[P], ...]
    restart_from: str = ""
    max_attempts: int = 1
    forward_only: bool = False
    abandon: Abandon[P] | None = None
    _index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        index = {step.name: number for number, step in enumerate(self.steps)}
        if len(index) != len(self.steps):
            raise TypeError(f"saga {self.name} has two steps of one name")
        if self.restart_from and self.restart_from not in index:
            raise TypeError(f"saga {self.name} would restart from an unknown step {self.restart_from}")
        for number, step in enumerate(self.steps):
            if step.beside and index.get(step.beside, len(index)) > number:
                raise TypeError(f"step {step.name} would run beside {step.beside}, which does not come before it")
            for name in step.formerly:
                if index.setdefault(name, number) != number:
                    raise TypeError(f"saga {self.name} has two steps for {name}")
        object.__setattr__(self, "_index", index)

    def step(self, name: str) -> Step[P]:
        """The step of that name, or that has taken over what was once done under it."""
        return self.steps[self._index[name]]

    def position(self, name: str) -> int:
        return self._index[name]

    def keys(self, params: P) -> list[StepKey]:
        """Every (step, item), in order."""
        return [
            (step.name, item) for step in self.steps for item in (getattr(params, step.each) if step.each else ("",))
        ]


def _unpack(packed: AnyMessage, message_class: type[M]) -> M:
    message = message_class()
    if not packed.Unpack(message):
        raise TypeError(f"a step's result is {packed.type_url}, not {message_class.DESCRIPTOR.full_name}")
    return message
