"""What an append can be refused for, and what can go wrong with the log itself."""

from __future__ import annotations

from uuid import UUID

from core.errors import AlreadyExists, CirraError, Conflict, ResourceExhausted, Unavailable


class VersionConflict(Conflict):
    """`version` is not the one that follows the aggregate's last, `current`. Reload, decide again."""

    reason = "VERSION_CONFLICT"

    def __init__(self, aggregate_id: UUID, version: int, current: int) -> None:
        super().__init__(f"aggregate {aggregate_id} is at version {current}; {version} can't follow")
        self.aggregate_id = aggregate_id
        self.version = version
        self.current = current


class UniqueViolation(AlreadyExists):
    """The key belongs to `owner`, which is not the one that claimed it."""

    reason = "UNIQUE_VIOLATION"

    def __init__(self, scope: str, key: str, owner: str) -> None:
        super().__init__(f"{scope} {key!r} belongs to {owner!r}", metadata={"scope": scope, "key": key})
        self.scope = scope
        self.key = key
        self.owner = owner


class LimitExceeded(ResourceExhausted):
    """`used` + `delta` would be more than `limit`."""

    reason = "LIMIT_EXCEEDED"

    def __init__(self, scope: str, key: str, used: int, limit: int, delta: int) -> None:
        super().__init__(
            f"{scope} {key!r}: {used} of {limit} used, {delta} more asked",
            metadata={"scope": scope, "key": key, "used": str(used), "limit": str(limit), "delta": str(delta)},
        )
        self.scope = scope
        self.key = key
        self.used = used
        self.limit = limit
        self.delta = delta


class CounterUnderflow(CirraError):
    """More would be given back than is used: an error of the code that derives constraints from events."""

    reason = "COUNTER_UNDERFLOW"

    def __init__(self, scope: str, key: str, used: int, delta: int) -> None:
        super().__init__(f"{scope} {key!r}: {used} used, can't add {delta}")
        self.scope = scope
        self.key = key
        self.used = used
        self.delta = delta


class InvalidAppend(CirraError):
    """The append could never be written: too large, versions not contiguous, a NUL in a text."""

    reason = "INVALID_APPEND"


class LogUnavailable(Unavailable):
    """Postgres could not be reached for as long as the log was told to wait.

    The append may have been committed nevertheless. Appending the same event ids again is safe: they count once.
    """

    reason = "LOG_UNAVAILABLE"


class SchemaMismatch(CirraError):
    """The database has another version of a migration than this code."""

    reason = "SCHEMA_MISMATCH"


class LeaseLost(CirraError):
    """The lease is not held any more, or by another: the work that it protects must stop."""

    reason = "LEASE_LOST"
    retryable = True

    def __init__(self, name: str, holder: str, fencing: int) -> None:
        super().__init__(f"lease {name!r} is no longer held by {holder!r} with fencing number {fencing}")
        self.name = name
        self.holder = holder
        self.fencing = fencing


class ServerUnverified(ConnectionError):
    """Postgres is another one than before, promoted or restored: it takes no append until the relay has found out
    whether it has all events. Passes by itself (a ConnectionError: the next connection may be fine)."""
