from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import asyncpg

from core.eventlog.leases import Leases


class Racing:
    """A pool on which somebody else has just made the lease's first row."""

    async def fetchval(self, *query: object, timeout: float) -> Any:  # noqa: ASYNC109 - asyncpg's
        raise asyncpg.UniqueViolationError('duplicate key value violates unique constraint "leases_name_fencing_key"')


async def test_the_second_of_two_first_holders_finds_the_lease_held() -> None:
    leases = Leases(cast(asyncpg.Pool, Racing()), "cell_log")
    assert await leases.acquire("relay", "conductor-2", timedelta(seconds=5)) is None
