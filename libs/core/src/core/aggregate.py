"""Aggregates of the `eventsourcing` library whose events carry one protobuf message each.

    class Network(Aggregate, kind="network"):
        display_name: str = ""

        @applies(pb.NetworkCreated)
        def _created(self, event: pb.NetworkCreated) -> None:
            self.display_name = event.display_name

        @classmethod
        def create(cls, network_id: UUID, name: str) -> Network:
            network = cls.new(network_id)
            network.record(pb.NetworkCreated(display_name=name))
            return network

    @constrains(pb.NetworkCreated)
    def _(network_id: UUID, event: pb.NetworkCreated) -> Iterable[Constraint]:
        yield CounterAdd("quota/networks", event.project_id, 1)

State is declared as annotated attributes with defaults (the library makes the class a dataclass). An event's topic is
the full name of its message ("cirra.network.v1.NetworkCreated"): it is what the log, the bus and the API call it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, ClassVar, TypeVar, cast
from uuid import UUID

from eventsourcing import domain
from eventsourcing.utils import register_topic
from google.protobuf.message import Message

from core.errors import CirraError
from core.eventlog.types import Constraint

M = TypeVar("M", bound=Message)
A = TypeVar("A", bound="Aggregate")

_APPLIES = "_cirra_applies"
_constraints: dict[str, Callable[[UUID, Any], Iterable[Constraint]]] = {}
_upcasters: dict[tuple[str, int], Callable[[Any], None]] = {}
_schema_versions: dict[str, int] = {}


class Aggregate(domain.Aggregate):
    """The root of all aggregates. `kind` is the aggregate type in the log and in subjects ("instance")."""

    kind: ClassVar[str]
    event_classes: ClassVar[dict[str, type[Event]]]
    event_time: ClassVar[datetime]  # of the event being applied: for handlers that keep it

    class Event(domain.Aggregate.Event):
        """A fact in the past tense; `data` is its protobuf message. The first one makes the aggregate."""

        data: Message

        aggregate_class: ClassVar[type[Aggregate]]
        message_class: ClassVar[type[Message]]
        handler: ClassVar[Callable[[Any, Any], None]]

        def mutate(self, aggregate: Any) -> Any:
            if aggregate is None:
                aggregate = type(self).aggregate_class.new(self.originator_id, self.timestamp)
            return super().mutate(aggregate)

        def apply(self, aggregate: Any) -> None:
            aggregate.event_time = self.timestamp
            type(self).handler(aggregate, self.data)

    def __init_subclass__(cls, *, kind: str) -> None:
        cls.kind = kind
        cls.event_classes = {}
        cls.Event = cast("Any", type("Event", (Aggregate.Event,), {"__module__": cls.__module__}))  # type: ignore[misc]
        for function in list(vars(cls).values()):
            message_class = getattr(function, _APPLIES, None)
            if message_class is not None:
                cls._define_event(message_class, function)
        super().__init_subclass__()

    @classmethod
    def _define_event(cls, message_class: type[Message], handler: Callable[[Any, Any], None]) -> None:
        name, topic = message_class.DESCRIPTOR.name, message_class.DESCRIPTOR.full_name
        members = {
            "__module__": cls.__module__,
            "__qualname__": f"{cls.__qualname__}.{name}",
            "TOPIC": topic,
            "aggregate_class": cls,
            "message_class": message_class,
            "handler": staticmethod(handler),
        }
        event_class = type(name, (cls.Event,), members)
        register_topic(topic, event_class)
        setattr(cls, name, event_class)
        cls.event_classes[topic] = cast("type[Aggregate.Event]", event_class)

    @classmethod
    def new(cls: type[A], aggregate_id: UUID, timestamp: datetime | None = None) -> A:
        """An aggregate to which nothing has happened yet (version 0)."""
        blank = cls.__new__(cls)
        moment = timestamp or cls.Event.create_timestamp()
        blank.__base_init__(originator_id=aggregate_id, originator_version=0, timestamp=moment)
        cast("Any", blank).__init__()
        return blank

    def record(self, message: Message) -> None:
        """Something happened: changes the state by the handler that `@applies` the message, and awaits saving."""
        event_class = self.event_classes.get(message.DESCRIPTOR.full_name)
        if event_class is None:
            raise TypeError(f"{type(self).__name__} applies no {message.DESCRIPTOR.full_name}")
        self.trigger_event(event_class, data=message)


def applies(message_class: type[M]) -> Callable[[Callable[[Any, M], None]], Callable[[Any, M], None]]:
    """Marks the method that changes an aggregate's state by one kind of event. It decides and checks nothing."""

    def mark(function: Callable[[Any, M], None]) -> Callable[[Any, M], None]:
        setattr(function, _APPLIES, message_class)
        return function

    return mark


def constrains(
    message_class: type[M],
) -> Callable[[Callable[[UUID, M], Iterable[Constraint]]], Callable[[UUID, M], Iterable[Constraint]]]:
    """Registers the constraint rows of an event: a pure function of the aggregate's id and the message.

    They are written in the transaction of the event, and recomputed from the log by a rebuild; so they
    must not depend on sensitive fields.
    """

    def register(
        function: Callable[[UUID, M], Iterable[Constraint]],
    ) -> Callable[[UUID, M], Iterable[Constraint]]:
        topic = message_class.DESCRIPTOR.full_name
        if topic in _constraints:
            raise TypeError(f"{topic} has its constraints already")
        _constraints[topic] = function
        return function

    return register


def constraints_of(aggregate_id: UUID, message: Message) -> Iterable[Constraint]:
    """The constraint rows that an event brings; none for most."""
    function = _constraints.get(message.DESCRIPTOR.full_name)
    return () if function is None else function(aggregate_id, message)


def upcasts(message_class: type[M], *, from_version: int) -> Callable[[Callable[[M], None]], Callable[[M], None]]:
    """Registers a step that changes a message of an older schema version in place to the next one.

    Only for what protobuf's own rules of evolution can't express.
    """

    def register(function: Callable[[M], None]) -> Callable[[M], None]:
        topic = message_class.DESCRIPTOR.full_name
        _upcasters[topic, from_version] = function
        _schema_versions[topic] = max(_schema_versions.get(topic, 1), from_version + 1)
        return function

    return register


def schema_version(topic: str) -> int:
    """The version that new events of a type are written in."""
    return _schema_versions.get(topic, 1)


def upcast(message: Message, stored_version: int) -> None:
    """Brings a stored message to the present schema version, step by step, in place."""
    topic = message.DESCRIPTOR.full_name
    current = schema_version(topic)
    if stored_version > current:
        raise CirraError(
            f"{topic} was written in schema version {stored_version}, this code knows {current}: upgrade it"
        )
    for version in range(stored_version, current):
        _upcasters[topic, version](message)
