"""Which roles users have now: all of them in memory, since every request asks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cirra.identity.v1.events_pb2 import UserCreated, UserDeleted, UserRoleGranted, UserRoleRevoked
from cirra.identity.v1.identity_pb2 import Principal, Role, RoleBinding
from core.eventlog.log import EventLog
from core.eventlog.types import RecordedEvent

_AGGREGATE_TYPE = "user"
_CHUNK = 1000

# The project, "" for the whole cloud, and the role in it.
_Binding = tuple[str, Role.ValueType]
# By user; None once the user is deleted.
_Bindings = dict[str, frozenset[_Binding] | None]


class Roles:
    """A token is signed for an hour, and tells the roles of its login: what was taken away since is known here."""

    def __init__(self) -> None:
        self._bindings: _Bindings = {}
        self._watched: dict[str, list[tuple[Principal, Callable[[], None]]]] = defaultdict(list)

    def cover(self, principal: Principal) -> bool:
        """Whether the user still has all roles of the principal.

        Of a user of whom the log knows nothing (it was restored to before) the signature alone tells.
        """
        if principal.user_id not in self._bindings:
            return True
        bindings = self._bindings[principal.user_id]
        here = ("", principal.project_id)
        return bindings is not None and all(
            any((project, role) in bindings for project in here) for role in principal.roles
        )

    async def load(self, log: EventLog, up_to: int) -> None:
        """What the log holds up to a position, and nothing else."""
        bindings: _Bindings = {}
        after = 0
        while events := await log.list_events(aggregate_type=_AGGREGATE_TYPE, after=after, up_to=up_to, limit=_CHUNK):
            for event in events:
                _apply(bindings, event)
            after = events[-1].position
        self._bindings = bindings

    def heard(self, event: RecordedEvent) -> None:
        """Takes in an event; those of no user mean nothing here."""
        if event.aggregate_type != _AGGREGATE_TYPE:
            return
        _apply(self._bindings, event)
        for principal, tell in self._watched.get(str(event.aggregate_id), ()):
            if not self.cover(principal):
                tell()

    @contextmanager
    def telling(self, principal: Principal, tell: Callable[[], None]) -> Iterator[None]:
        """Within it, `tell` is called when a role of the principal is taken away."""
        entry = (principal, tell)
        self._watched[principal.user_id].append(entry)
        try:
            yield
        finally:
            self._watched[principal.user_id].remove(entry)
            if not self._watched[principal.user_id]:
                del self._watched[principal.user_id]


def _apply(bindings: _Bindings, event: RecordedEvent) -> None:
    user = str(event.aggregate_id)
    had = bindings.get(user) or frozenset()
    match event.type:
        case UserCreated.DESCRIPTOR.full_name:
            bindings[user] = had
        case UserRoleGranted.DESCRIPTOR.full_name:
            bindings[user] = had | {_key(UserRoleGranted.FromString(event.data).binding)}
        case UserRoleRevoked.DESCRIPTOR.full_name:
            bindings[user] = had - {_key(UserRoleRevoked.FromString(event.data).binding)}
        case UserDeleted.DESCRIPTOR.full_name:
            bindings[user] = None


def _key(binding: RoleBinding) -> _Binding:
    return binding.project_id, binding.role
