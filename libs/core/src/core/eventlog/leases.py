"""Leases: roles with one holder at a time, in Postgres's time.

A lease runs out unless it is renewed, so a paused or cut-off holder keeps it for its ttl at most. When it wakes it
may not know yet that it lost: therefore each holding has a fencing number, higher than all before it, and a write
of the holder checks it in its own transaction (`Lease.check`). See Gray and Cheriton, "Leases", 1989.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import asyncpg
import structlog

from core.eventlog.connections import Connection, is_transient
from core.eventlog.errors import LeaseLost
from core.eventlog.schema import check_schema_name, migrate, packaged, quote_identifier, quote_literal

MIGRATIONS = ("leases_0001", "leases_0002_timeout")

T = TypeVar("T")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Lease:
    """One holding of a lease: `fencing` is higher than that of every earlier holding of the same name."""

    name: str
    holder: str
    fencing: int
    ttl: timedelta


@dataclass(frozen=True, slots=True)
class SqlLease:
    """`condition`: an SQL expression, true while the lease is this holding's; see `Leases.check`."""

    lease: Lease
    condition: str


class HeldLease:
    """A lease while `Leases.hold` renews it. `lost` is set, for good, as soon as it may be another's."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.lost = asyncio.Event()

    async def run(self, work: Awaitable[T]) -> T:
        """Awaits the work; cancels it and raises LeaseLost when the lease is lost before it ends."""
        task = asyncio.ensure_future(work)
        lost = asyncio.ensure_future(self.lost.wait())
        try:
            await asyncio.wait((task, lost), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise LeaseLost(self.lease.name, self.lease.holder, self.lease.fencing)
        finally:
            await _cancel(lost)
            await _cancel(task)


class Leases:
    """The leases of one schema. `EventLog.open` makes the table in the log's; `prepare` does in any other."""

    def __init__(self, pool: asyncpg.Pool, schema: str) -> None:
        self._pool = pool
        self._schema = check_schema_name(schema)
        table = f"{quote_identifier(schema)}.leases"
        self._acquire = (
            f"INSERT INTO {table} AS l (name, holder, fencing, expires_at)"
            " VALUES ($1, $2, 1, clock_timestamp() + $3) ON CONFLICT (name) DO UPDATE"
            " SET holder = excluded.holder, fencing = l.fencing + 1, expires_at = clock_timestamp() + $3"
            " WHERE l.expires_at <= clock_timestamp() RETURNING fencing"
        )
        held = "WHERE name = $1 AND holder = $2 AND fencing = $3"
        self._renew = (
            f"UPDATE {table} SET expires_at = clock_timestamp() + $4 {held}"
            " AND expires_at > clock_timestamp() RETURNING true"
        )
        self._release = f"UPDATE {table} SET holder = '', expires_at = clock_timestamp() {held}"
        self._holds = f"{quote_identifier(schema)}.holds_lease"

    async def prepare(self) -> None:
        """Makes the table and its function when they are absent."""
        async with self._pool.acquire() as connection:
            await migrate(connection, self._schema, packaged(*MIGRATIONS))

    async def acquire(self, name: str, holder: str, ttl: timedelta) -> Lease | None:
        """The lease, or None while somebody holds it: also while an earlier holding of the same holder lasts."""
        try:
            fencing = await self._pool.fetchval(self._acquire, name, holder, ttl, timeout=ttl.total_seconds())
        except asyncpg.UniqueViolationError:
            # Of two that are the first ever, the second may meet the other's fencing number before its name.
            return None
        return None if fencing is None else Lease(name, holder, fencing, ttl)

    async def renew(self, lease: Lease) -> bool:
        """Another ttl from now. False when the lease ran out or is another's: it is lost."""
        timeout = lease.ttl.total_seconds() / 3
        key = (lease.name, lease.holder, lease.fencing)
        return bool(await self._pool.fetchval(self._renew, *key, lease.ttl, timeout=timeout))

    async def release(self, lease: Lease) -> None:
        """Lets the next holder in at once. Without effect when the lease is lost."""
        await self._pool.execute(self._release, lease.name, lease.holder, lease.fencing)

    async def check(self, connection: Connection, lease: Lease) -> None:
        """Raises LeaseLost unless the lease is still this holding's, and keeps it so until the transaction ends.

        Call it in the transaction that writes under the lease. It stops a takeover meanwhile, not a renewal, and
        Postgres ends a transaction that goes on for ten seconds after it. A lease that ran out but was taken by
        nobody passes: no other holder can have written in between.
        """
        checked = f"SELECT {self._holds}($1, $2, $3)"
        if not await connection.fetchval(checked, lease.name, lease.holder, lease.fencing):
            raise LeaseLost(lease.name, lease.holder, lease.fencing)

    def in_sql(self, lease: Lease) -> SqlLease:
        """The check as a part of another statement."""
        key = f"{quote_literal(lease.name)}, {quote_literal(lease.holder)}, {lease.fencing}"
        return SqlLease(lease, f"{self._holds}({key})")

    @asynccontextmanager
    async def hold(self, name: str, holder: str, ttl: timedelta) -> AsyncIterator[HeldLease]:
        """Waits for the lease, renews it every third of its ttl, and releases it at the end.

        An unreachable Postgres is waited for. The body watches `lost`, or runs its work in `HeldLease.run`.
        """
        held, acquired_at = await self._wait_for(name, holder, ttl)
        renewal = asyncio.create_task(self._keep(held, acquired_at), name=f"lease {name}")
        try:
            yield held
        finally:
            was_lost = held.lost.is_set()
            await _cancel(renewal)  # which sets `lost`
            if not was_lost:
                try:
                    await self.release(held.lease)
                except Exception as error:
                    if not is_transient(error):
                        raise
                    _log.warning("lease not released, it will run out", lease=name, error=str(error))

    async def _wait_for(self, name: str, holder: str, ttl: timedelta) -> tuple[HeldLease, float]:
        """The lease, and the monotonic time before which it can't have been acquired."""
        clock = asyncio.get_running_loop().time
        while True:
            asked_at = clock()
            try:
                lease = await self.acquire(name, holder, ttl)
            except Exception as error:
                if not is_transient(error):
                    raise
                _log.warning("can't acquire lease, trying on", lease=name, error=str(error))
                lease = None
            if lease is not None:
                return HeldLease(lease), asked_at
            await asyncio.sleep(ttl.total_seconds() / 3)

    async def _keep(self, held: HeldLease, renewed_at: float) -> None:
        """Renews until the lease is lost, which it is at the latest a ttl after the last renewal was asked for."""
        clock = asyncio.get_running_loop().time
        ttl = held.lease.ttl.total_seconds()
        pause = ttl / 3
        try:
            while True:
                await asyncio.sleep(pause)
                asked_at = clock()
                try:
                    async with asyncio.timeout_at(renewed_at + ttl):
                        if not await self.renew(held.lease):
                            return
                    renewed_at, pause = asked_at, ttl / 3
                except Exception as error:
                    if not is_transient(error):
                        raise
                    _log.warning("lease not renewed", lease=held.lease.name, error=str(error))
                    pause = ttl / 10
                if clock() >= renewed_at + ttl:
                    return
        finally:
            held.lost.set()


async def _cancel(task: asyncio.Future[Any]) -> None:
    """Ends a task of ours and waits for its end; how it ends does not matter any more."""
    task.cancel()
    await asyncio.wait((task,))
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.debug("ended with an error", error=repr(error))
