"""Postgres away is no fault of a request: its caller is told to try again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from core.errors import CirraError, Unavailable
from core.eventlog.connections import is_transient
from core.rpc.interceptors.call import ServerCall


@asynccontextmanager
async def database_away(call: ServerCall) -> AsyncIterator[None]:
    """A layer around every RPC: what Postgres's absence raises becomes Unavailable."""
    try:
        yield
    except CirraError:
        raise
    except Exception as error:
        if not is_transient(error):
            raise
        raise Unavailable("the database can't be reached now", remedy="try again in a moment") from error
