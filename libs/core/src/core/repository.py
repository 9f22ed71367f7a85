"""Loading aggregates from the log and appending what happened to them.

One `save` is one append: all of its events, of however many aggregates, and their constraint rows, or nothing.

A request id is used once: an append that answers a request claims it, in the scope `REQUESTS`, for its first event.
Who asks again finds there what was done (`request_key`, `request_owner`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar, cast
from uuid import UUID

from eventsourcing.utils import resolve_topic

import core.epochs  # noqa: F401 - registers its event, which every log may hold
from core.aggregate import Aggregate, constraints_of, schema_version, upcast
from core.errors import CirraError, Conflict, NotFound
from core.eventlog.errors import LimitExceeded, LogUnavailable, UniqueViolation, VersionConflict
from core.eventlog.log import EventLog
from core.eventlog.types import Append, Appended, Constraint, Context, NewEvent, RecordedEvent, UniqueClaim
from core.ids import uuid7
from core.remembered import Remembered
from core.sealing import Keyring

A = TypeVar("A", bound=Aggregate)
R = TypeVar("R")

MAX_ATTEMPTS = 16
REQUESTS = "request"


@dataclass(frozen=True, slots=True)
class Saved:
    """Where the log stands after a save. `position` is that of its last event; 0 when nothing had happened."""

    position: int
    recorded_at: datetime | None = None


class Repository:
    """Aggregates of one log.

    `context` tells who asks and in which trace; it is called once per append.
    """

    def __init__(self, log: EventLog, keyring: Keyring, context: Callable[[], Context]) -> None:
        self._log = log
        self._keyring = keyring
        self._context = context
        self.remembered = Remembered(lambda: log.connections)

    @property
    def log(self) -> EventLog:
        return self._log

    async def find(self, aggregate_class: type[A], aggregate_id: UUID, *, up_to: int | None = None) -> A | None:
        """The aggregate as the log has it, or as it was at position `up_to`; None if nothing happened to it."""
        reached = self._log.known_position
        recorded = await self._log.read_aggregate(aggregate_id, up_to_position=up_to)
        if up_to is not None:
            return await self._made_of(aggregate_class, aggregate_id, recorded)
        return await self._made_of(aggregate_class, aggregate_id, recorded, reached)

    async def load(self, aggregate_class: type[A], aggregate_id: UUID, *, up_to: int | None = None) -> A:
        """As `find`; `NotFound` if nothing happened to it."""
        return _require(aggregate_class, aggregate_id, await self.find(aggregate_class, aggregate_id, up_to=up_to))

    async def load_each(self, *wanted: tuple[type[Aggregate], UUID]) -> list[Any]:
        """As `load`, of several by one read: of each class and id, in their order."""
        reached = self._log.known_position
        recorded = await self._log.read_aggregates([aggregate_id for _, aggregate_id in wanted])
        return [_require(kind, each, await self._made_of(kind, each, recorded[each], reached)) for kind, each in wanted]

    async def recall(self, aggregate_class: type[A], aggregate_id: UUID, *, at_least: int = 0) -> A:
        """As `load`, or what this process remembers: with all that happened up to position *at_least*, and all that was
        saved here. For those who are woken by what happens later, or whose append will show that they were wrong."""
        history = self.remembered.followed(aggregate_id, at_least)
        found: A | None = _aggregate(history) if history else None
        return found if found is not None else await self.load(aggregate_class, aggregate_id)

    async def glance(self, aggregate_class: type[A], aggregate_id: UUID, *, at_least: int = 0) -> A:
        """As `recall`, for those who only look: others are given the same one, so that nobody may change it."""
        history = self.remembered.followed(aggregate_id, at_least)
        if not history:
            return await self.load(aggregate_class, aggregate_id)
        found: A = self.remembered.made_of(aggregate_id, history, _aggregate)
        return found

    def remembers(self, aggregate_class: type[A], aggregate_id: UUID) -> A | None:
        """What was made of it by the beginning of its history that this process remembers, if any."""
        history = self.remembered.history(aggregate_id)
        found: A | None = _aggregate(history) if history else None
        return found

    async def save(self, *aggregates: Aggregate, patient: bool = False) -> Saved:
        """Appends what happened to the aggregates since they were loaded, all or nothing. `patient`: see `Append`.

        Raises `VersionConflict`, `UniqueViolation`, `LimitExceeded`, `LogUnavailable` (retryable).
        """
        pending = [(aggregate, event) for aggregate in aggregates for event in aggregate.pending_events]
        if not pending:
            return Saved(0)
        events: list[NewEvent] = []
        with_new_keys: set[UUID] = set()
        context = self._context()
        constraints: list[Constraint] = list(request_claims(context, *_place(pending[0][1])))
        for aggregate, event in pending:
            message = event.data  # type: ignore[attr-defined]
            topic = message.DESCRIPTOR.full_name
            sealed = await self._keyring.seal(event.originator_id, message)
            if sealed is not message and event.originator_version == 1:
                with_new_keys.add(event.originator_id)
            events.append(
                NewEvent(
                    aggregate_type=aggregate.kind,
                    aggregate_id=event.originator_id,
                    version=event.originator_version,
                    type=topic,
                    data=sealed.SerializeToString(deterministic=True),
                    event_id=uuid7(),
                    schema_version=schema_version(topic),
                )
            )
            constraints.extend(constraints_of(event.originator_id, message))
        try:
            appended = await self._append(events, constraints, context, patient)
        except VersionConflict as conflict:
            self.remembered.forget(conflict.aggregate_id)
            raise
        except (UniqueViolation, LimitExceeded):
            # Refused for certain: what would have begun has no secrets to keep.
            for aggregate_id in with_new_keys:
                await self._keyring.destroy_unused(aggregate_id)
            raise
        for aggregate in aggregates:
            self._remember(aggregate, appended)
            aggregate.pending_events.clear()
        return Saved(appended.last_position, appended.recorded_at)

    async def _append(
        self, events: Sequence[NewEvent], constraints: Iterable[Constraint], context: Context, patient: bool
    ) -> Appended:
        return await self._log.append(
            Append(events=tuple(events), constraints=tuple(constraints), context=context, patient=patient)
        )

    def _remember(self, aggregate: Aggregate, appended: Appended) -> None:
        """As it will be read from the log: in the log's time."""
        events = [
            cast("Any", type(event))(
                originator_id=event.originator_id,
                originator_version=event.originator_version,
                timestamp=appended.recorded_at,
                data=event.data,  # type: ignore[attr-defined]
            )
            for event in aggregate.pending_events
        ]
        if events:
            self.remembered.appended(aggregate.id, events, up_to=appended.last_position)

    async def change(self, aggregate_class: type[A], aggregate_id: UUID, decide: Callable[[A], Any]) -> tuple[A, Saved]:
        """Loads, decides, appends; on a version conflict decides again on what is there now.

        `decide` records events on the aggregate, or raises to refuse; it has no other effect. Raises `NotFound`,
        `Conflict` after `MAX_ATTEMPTS`, and what `decide` and `save` raise.
        """
        changed = await self._change_remembered(aggregate_id, decide)
        if changed is not None:
            return changed

        async def once() -> tuple[A, Saved]:
            aggregate = await self.load(aggregate_class, aggregate_id)
            decide(aggregate)
            return aggregate, await self.save(aggregate)

        return await again_on_conflict(once)

    async def _change_remembered(self, aggregate_id: UUID, decide: Callable[[Any], Any]) -> tuple[Any, Saved] | None:
        """A change of what is remembered. None where that may be out of date: it holds only once it is appended."""
        history = self.remembered.history(aggregate_id)
        if not history:
            return None
        aggregate = _aggregate(history)
        try:
            decide(aggregate)
            if aggregate.pending_events:
                return aggregate, await self.save(aggregate)
        except CirraError as error:
            if isinstance(error, LogUnavailable):
                raise
            self.remembered.forget(aggregate_id)
        return None

    async def destroy_secrets(self, aggregate_id: UUID) -> None:
        """After its deletion: nobody can open an aggregate's sensitive fields any more, wherever they were copied."""
        self.remembered.forget(aggregate_id)
        await self._keyring.destroy(aggregate_id)

    async def _made_of(
        self, aggregate_class: type[A], aggregate_id: UUID, recorded: Iterable[RecordedEvent], up_to: int | None = None
    ) -> A | None:
        """What its events have made of an aggregate. `up_to`: they are all that happened to it, up to that position at
        least, and are remembered."""
        events = [await self._domain_event(aggregate_class, entry) for entry in recorded]
        if up_to is not None:
            self.remembered.keep(aggregate_id, events, up_to=up_to)
        found: A | None = _aggregate(events)
        return found

    async def _domain_event(self, aggregate_class: type[A], entry: RecordedEvent) -> Any:
        event_class = aggregate_class.event_classes.get(entry.type)
        if event_class is None:
            raise CirraError(
                f"{aggregate_class.__name__} {entry.aggregate_id} has an event of foreign type {entry.type}"
            )
        return cast("Any", event_class)(
            originator_id=entry.aggregate_id,
            originator_version=entry.version,
            timestamp=entry.recorded_at,
            data=await self._decode(event_class, entry),
        )

    async def _decode(self, event_class: type[Aggregate.Event], entry: RecordedEvent) -> Any:
        message = event_class.message_class.FromString(entry.data)
        upcast(message, entry.schema_version)
        return await self._keyring.unseal(entry.aggregate_id, message)


def _require(aggregate_class: type[A], aggregate_id: UUID, found: A | None) -> A:
    if found is None:
        raise NotFound(f"no {aggregate_class.kind} {aggregate_id}")
    return found


def _aggregate(history: Iterable[Any]) -> Any:
    """What has become of the aggregate; None when nothing happened."""
    aggregate = None
    for event in history:
        aggregate = event.mutate(aggregate)
    return aggregate


async def again_on_conflict(once: Callable[[], Awaitable[R]]) -> R:
    """Runs `once` until it meets no version conflict; `Conflict` after `MAX_ATTEMPTS`."""
    for _ in range(MAX_ATTEMPTS):
        try:
            return await once()
        except VersionConflict as conflict:
            last = conflict
    raise Conflict(f"changed by others {MAX_ATTEMPTS} times in a row; try again") from last


def request_key(actor: str, request_id: str) -> str:
    """The key of a request in the scope `REQUESTS`: ids are the actor's own, two actors may choose the same."""
    return f"{actor}/{request_id}"


def request_owner(aggregate_id: UUID, version: int) -> str:
    """The owner of a request: the place of the first event of the append that answered it."""
    return f"{aggregate_id}@{version}"


def parse_request_owner(owner: str) -> tuple[UUID, int]:
    """The inverse: aggregate id and version."""
    aggregate_id, _, version = owner.partition("@")
    return UUID(aggregate_id), int(version)


def request_claims(context: Context | RecordedEvent, aggregate_id: UUID, version: int) -> tuple[UniqueClaim, ...]:
    """What an append with this metadata claims, whose first event is at this place.

    Only the append that answers a request does, not what that leads to later: this names its cause.
    """
    if not context.request_id or context.causation_id:
        return ()
    key = request_key(context.actor, context.request_id)
    return (UniqueClaim(REQUESTS, key, request_owner(aggregate_id, version)),)


def _place(event: Any) -> tuple[UUID, int]:
    return event.originator_id, event.originator_version


class RecordedConstraints:
    """The constraint rows that a log's events imply, for a rebuild. Called with every event, in order of position.

    The modules with the aggregates of all events must be imported: they say what constrains what.
    """

    def __init__(self) -> None:
        self._claimed: tuple[str, str] | None = None

    def __call__(self, entry: RecordedEvent) -> list[Constraint]:
        request = (entry.actor, entry.request_id)
        # The events of one append follow one another; its first one claimed the request for all.
        constraints: list[Constraint] = []
        if request != self._claimed:
            constraints.extend(request_claims(entry, entry.aggregate_id, entry.version))
        self._claimed = request if entry.request_id and not entry.causation_id else None
        message = resolve_topic(entry.type).message_class.FromString(entry.data)
        upcast(message, entry.schema_version)
        constraints.extend(constraints_of(entry.aggregate_id, message))
        return constraints
