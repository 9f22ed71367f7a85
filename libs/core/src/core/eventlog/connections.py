"""How the log's connections to Postgres are set up, and which of their failures pass by themselves."""

from __future__ import annotations

from collections.abc import Iterator

import asyncpg
from asyncpg.pool import PoolConnectionProxy

Connection = asyncpg.Connection | PoolConnectionProxy

CONNECT_TIMEOUT_S = 5.0
STATEMENT_TIMEOUT_S = 30.0

LIMITS = {
    "application_name": "cirra",
    "default_transaction_isolation": "read committed",
    # Nobody waits for a paused or vanished client longer than this: not even for a lock that it holds.
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "8s",
    "statement_timeout": f"{STATEMENT_TIMEOUT_S:.0f}s",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
}
"""Server settings of every connection of the pool."""

WRITER_SETTINGS = LIMITS | {
    # A cancelled statement gives up waiting for a synchronous standby and then says that it succeeded. The writer's
    # own timeout is safe: it takes no answer, and sends the batch again.
    "statement_timeout": "0",
    # Plans of `append_batch` are made once, when the tables may be small, and must do for large ones.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}
"""Server settings of the connection that appends. lock_timeout bounds what it can wait for."""

_TRANSIENT = (
    OSError,  # also TimeoutError and ConnectionError
    asyncpg.InterfaceError,  # the connection is closed
    asyncpg.InternalClientError,  # it was closed in the middle of the protocol
    asyncpg.PostgresConnectionError,  # class 08
    asyncpg.TransactionRollbackError,  # class 40: serialisation, deadlock
    asyncpg.InsufficientResourcesError,  # class 53: disk full, too many connections
    asyncpg.OperatorInterventionError,  # class 57: shutdown, cancelled statement
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby, until it is promoted
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.PostgresSystemError,  # class 58: I/O error
)


def is_transient(error: BaseException) -> bool:
    """Whether the same statement may succeed later, on this or on a new connection."""
    # asyncpg's InterfaceErrors that are also ValueErrors blame the arguments of the call.
    return isinstance(error, _TRANSIENT) and not isinstance(error, ValueError)


async def leave_session(connection: Connection) -> None:
    """What the pool does when it gets a connection back: nothing, where asyncpg would reset its session.

    That doubles the round trips of all that reads one row. Whoever borrows a connection sets nothing beyond a
    transaction, locks nothing beyond one, and removes its listeners; asyncpg itself rolls back what is open.
    """


def backoff(first_s: float = 0.05, longest_s: float = 2.0) -> Iterator[float]:
    """Pauses in seconds, doubling, without end."""
    pause = first_s
    while True:
        yield pause
        pause = min(pause * 2, longest_s)
