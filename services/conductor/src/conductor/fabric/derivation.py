"""Events in, rows that they may have changed out: pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from google.protobuf.message import Message

from cirra.agent.v1.desired_pb2 import DesiredObject
from conductor.fabric.facts import Facts
from conductor.fabric.kind import Kind
from conductor.fabric.registry import SOURCES, kinds
from conductor.fabric.source import Source
from core.eventlog.types import RecordedEvent

Key = tuple[str, str, str]
"""Host, kind, object id."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a row is after the event at `position`, whether that has changed it or not. `spec`: a `DesiredObject` with
    nothing but its spec, encoded; None: the host has no such object."""

    key: Key
    position: int
    spec: bytes | None


class Derivation:
    """Takes in events, one after the other, in order of position."""

    def __init__(self, sources: Sequence[Source] = SOURCES, of: Sequence[Kind] | None = None) -> None:
        self.facts = Facts()
        self._sources = sources
        self._kinds = kinds() if of is None else of
        self._encoded: tuple[Message, bytes] | None = None

    @staticmethod
    def concerns(event: RecordedEvent) -> bool:
        return any(source.concerns(event) for source in SOURCES)

    def take_in(self, event: RecordedEvent) -> Iterator[Look]:
        """What the event may have changed. To be gone through to the end before the next event."""
        self.facts.begin_event()
        for source in self._sources:
            if source.concerns(event):
                source.learn(self.facts, event)
        for source in self._sources:
            source.conclude(self.facts)
        for kind in self._kinds:
            for host, object_id in kind.affected(self.facts):
                yield self._look(kind, host, object_id, event.position)

    def everything(self) -> Iterator[Look]:
        """Every object that a host has by now, whatever happened before. Positions are 0."""
        for kind in self._kinds:
            for host, object_id in kind.all(self.facts):
                look = self._look(kind, host, object_id, 0)
                if look.spec is not None:
                    yield look

    def _look(self, kind: Kind, host: str, object_id: str, position: int) -> Look:
        spec = kind.spec(self.facts, host, object_id)
        return Look((host, kind.name, object_id), position, None if spec is None else self._encode(kind, spec))

    def _encode(self, kind: Kind, spec: Message) -> bytes:
        if self._encoded is None or self._encoded[0] is not spec:
            desired = DesiredObject()
            getattr(desired, kind.name.replace("-", "_")).CopyFrom(spec)
            self._encoded = spec, desired.SerializeToString(deterministic=True)
        return self._encoded[1]
