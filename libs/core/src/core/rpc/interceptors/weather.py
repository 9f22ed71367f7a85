"""Postgres away is no fault of a request: its caller is told to try again."""

from __future__ import annotations

from typing import Any

from core.errors import CirraError, Unavailable
from core.eventlog.connections import is_transient
from core.rpc.interceptors.call import Handler, ServerCall


def database_away(handler: Handler) -> Handler:
    """A layer around every RPC: what Postgres's absence raises becomes Unavailable."""

    async def told(call: ServerCall, request: Any) -> Any:
        try:
            return await handler(call, request)
        except CirraError:
            raise
        except Exception as error:
            if not is_transient(error):
                raise
            raise Unavailable("the database can't be reached now", remedy="try again in a moment") from error

    return told
