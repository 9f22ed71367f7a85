"""Where facts come from: functions of events, one set for each area."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.message import Message

from conductor.fabric.facts import Facts
from core.aggregate import upcast
from core.eventlog.types import RecordedEvent

M = TypeVar("M", bound=Message)
Learn = Callable[[Facts, RecordedEvent, M], None]
Conclude = Callable[[Facts], None]


class Source:
    """What one area learns of events.

        BINDINGS = Source()

        @BINDINGS.on(pb.PortBindingDesired)
        def _desired(facts: Facts, event: RecordedEvent, message: pb.PortBindingDesired) -> None:
            facts.bindings.put(Binding(...))

    Pure: it looks at nothing but the facts and the event.
    """

    def __init__(self) -> None:
        self._learn: dict[str, tuple[type[Message], Learn[Any]]] = {}
        self._conclude: list[Conclude] = []

    def on(self, message_class: type[M]) -> Callable[[Learn[M]], Learn[M]]:
        """Registers what is learnt of one kind of event."""

        def register(function: Learn[M]) -> Learn[M]:
            self._learn[message_class.DESCRIPTOR.full_name] = (message_class, function)
            return function

        return register

    def concluding(self, function: Conclude) -> Conclude:
        """Registers what is called after each event that concerned any source, when all have learnt of it, in the order
        of `registry.SOURCES`: for facts that follow from facts, by the journals of their tables."""
        self._conclude.append(function)
        return function

    def concerns(self, event: RecordedEvent) -> bool:
        return event.type in self._learn

    def learn(self, facts: Facts, event: RecordedEvent) -> None:
        """Raises DecodeError for an event that can't be read."""
        message_class, function = self._learn[event.type]
        message = message_class.FromString(event.data)
        upcast(message, event.schema_version)
        function(facts, event, message)

    def conclude(self, facts: Facts) -> None:
        for function in self._conclude:
            function(facts)
