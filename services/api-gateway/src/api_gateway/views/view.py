"""A view: how the events of the log become one kind of public resource.

    INSTANCE = View("instance", pb.Instance, columns=_columns)

    @INSTANCE.on(events.InstanceCreated, begins=True)
    def _created(instance: pb.Instance, event: RecordedEvent, message: events.InstanceCreated) -> None:
        instance.display_name = message.display_name

The reducers are pure, so the live read model, a read AS OF an earlier position and a watcher's copy are one fold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from core.eventlog.types import RecordedEvent

R = TypeVar("R", bound=Message)
M = TypeVar("M", bound=Message)

Reducer = Callable[[Any, RecordedEvent, Any], None]
UidOf = Callable[[RecordedEvent, Any], str]


class Audience(Enum):
    """Who sees a resource; an administrator sees all."""

    PROJECT = auto()
    # Or everyone, if it is public.
    PROJECT_OR_PUBLIC = auto()
    # Or everyone, if its parent is public.
    PROJECT_OR_PUBLIC_PARENT = auto()
    EVERYONE = auto()
    # The user that it is about.
    USER = auto()
    # Who it is itself: a user, a project.
    ITSELF = auto()
    ADMINISTRATORS = auto()


@dataclass(frozen=True, slots=True)
class Columns:
    """What a resource is found by, beside its uid.

    `parent`: the uid of what it is a part of. `about`: the uid of what it serves: a port's device, an operation's
    target, a key pair's user. `state`: the name of its status.
    """

    project_id: str = ""
    parent: str = ""
    about: str = ""
    display_name: str = ""
    host: str = ""
    state: str = ""
    public: bool = False


@dataclass(slots=True)
class Row(Generic[R]):
    """A resource in a read model. `deleted` rows stay: for timelines, and for who asks again with a request id."""

    kind: str
    uid: str
    resource: R
    create_position: int
    update_position: int
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class _Route:
    reducer: Reducer
    uid_of: UidOf
    begins: bool
    ends: bool


class View(Generic[R]):
    """`named_by_display_name`: its resource name ends in the display name, not in the uid ("hosts/host-1")."""

    def __init__(
        self,
        kind: str,
        resource_class: type[R],
        *,
        columns: Callable[[R], Columns],
        audience: Audience = Audience.PROJECT,
        title: str = "",
        named_by_display_name: bool = False,
    ) -> None:
        self.kind = kind
        # As a person calls it: "key pair".
        self.title = title or kind
        self.resource_class = resource_class
        self.columns = columns
        self.audience = audience
        self.named_by_display_name = named_by_display_name
        self._routes: dict[str, _Route] = {}
        fields = resource_class.DESCRIPTOR.fields_by_name
        self._stamped = tuple(
            name for name in ("uid", "create_time", "update_time", "etag", "position") if name in fields
        )

    def on(
        self, message_class: type[M], *, of: UidOf | None = None, begins: bool = False, ends: bool = False
    ) -> Callable[[Callable[[R, RecordedEvent, M], None]], Callable[[R, RecordedEvent, M], None]]:
        """Registers the reducer of one type of event.

        `of`: tells the resource's uid; without it, it is the aggregate's id. `begins`: the event makes the resource if
        there is none; the others are skipped then. `ends`: the resource is deleted by it.
        """

        def register(reducer: Callable[[R, RecordedEvent, M], None]) -> Callable[[R, RecordedEvent, M], None]:
            topic = message_class.DESCRIPTOR.full_name
            if topic in self._routes:
                raise TypeError(f"{self.kind} has a reducer of {topic} already")
            self._routes[topic] = _Route(reducer, of or _aggregate_id, begins, ends)
            return reducer

        return register

    @property
    def event_types(self) -> frozenset[str]:
        """The full names of the events that change such resources."""
        return frozenset(self._routes)

    def uid_of(self, event: RecordedEvent, message: Message) -> str:
        """The uid of the resource that an event of `event_types` is about; empty: of none."""
        return self._routes[event.type].uid_of(event, message)

    def apply(self, row: Row[R] | None, event: RecordedEvent, message: Message) -> Row[R] | None:
        """The row after the event, changed in place or new; None when there is none to change."""
        route = self._routes[event.type]
        if row is None:
            if not route.begins:
                return None
            row = self._new(route.uid_of(event, message), event)
        route.reducer(row.resource, event, message)
        row.update_position = event.position
        row.deleted = row.deleted or route.ends
        resource: Any = row.resource
        if "update_time" in self._stamped:
            resource.update_time.FromDatetime(event.recorded_at)
        if "etag" in self._stamped:
            resource.etag = etag(row.uid, event.position)
        if "position" in self._stamped:
            resource.position = event.position
        return row

    def _new(self, uid: str, event: RecordedEvent) -> Row[R]:
        resource: Any = self.resource_class()
        if "uid" in self._stamped:
            resource.uid = uid
        if "create_time" in self._stamped:
            resource.create_time.FromDatetime(event.recorded_at)
        return Row(self.kind, uid, resource, event.position, event.position)


def etag(uid: str, position: int) -> str:
    """Changes whenever the resource does (AIP-154)."""
    return hashlib.sha256(f"{uid}@{position}".encode()).hexdigest()[:16]


def _aggregate_id(event: RecordedEvent, message: Message) -> str:
    return str(event.aggregate_id)
