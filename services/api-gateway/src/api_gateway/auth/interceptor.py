"""The layer around every RPC that makes an access token into a principal, and asks whether it may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from opentelemetry import trace

from api_gateway.auth.policy import Need, allow, need_of
from api_gateway.auth.tokens import AccessToken, Tokens
from api_gateway.auth.validity import Validity
from core.context import acting
from core.errors import Unauthenticated
from core.rpc.context import set_principal
from core.rpc.interceptors import Handler, Layer, ServerCall
from core.rpc.metadata import min_position, text

_SCHEME = "bearer "


def authentication(tokens: Tokens, validity: Validity, caught_up: Callable[[int | None], Awaitable[None]]) -> Layer:
    """`caught_up`: returns once `validity` knows the log up to a position; None: up to its end.

    Whatever principal the caller's metadata claims is dropped: only a token makes one here.
    """

    def layer(handler: Handler) -> Handler:
        async def authenticated(call: ServerCall, request: Any) -> Any:
            set_principal(None)
            if need_of(call.method) is Need.NOTHING:
                return await handler(call, request)
            token = tokens.verify(_bearer(call))
            await caught_up(min_position(call.context))
            await validity.require(token, lambda: caught_up(None))
            allow(call.method, token.principal)
            set_principal(token.principal)
            _annotate(token)
            with acting(actor=token.principal.user_id):
                if not _is_watch(call.method):
                    return await handler(call, request)
                async with _while_valid(token, validity, tokens.now):
                    return await handler(call, request)

        return authenticated

    return layer


def _is_watch(method: str) -> bool:
    return method.rpartition("/")[2].startswith("Watch")


@asynccontextmanager
async def _while_valid(token: AccessToken, validity: Validity, now: Callable[[], datetime]) -> AsyncIterator[None]:
    """A watch, which lasts as long as its watcher likes, ends when its token does: Unauthenticated."""
    clock = asyncio.get_running_loop().time
    try:
        async with asyncio.timeout((token.expires_at - now()).total_seconds()) as limit:
            with validity.telling(token, lambda: limit.reschedule(clock())):
                yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        fault = validity.fault(token) or Unauthenticated("the access token expired", reason="TOKEN_EXPIRED")
        raise Unauthenticated(
            f"{fault}: watching ends with it", reason=fault.reason, remedy="log in again, and watch again"
        ) from error


def _bearer(call: ServerCall) -> str:
    """The token in the `authorization` metadata (RFC 6750, section 2.1)."""
    value = text(call.metadata, "authorization")
    if not value:
        raise Unauthenticated(
            "no access token",
            reason="TOKEN_MISSING",
            remedy="log in, and send `authorization: Bearer <token>` in the metadata",
        )
    if not value.lower().startswith(_SCHEME):
        raise Unauthenticated(
            "the authorization metadata is no bearer token", reason="TOKEN_INVALID", remedy="send `Bearer <token>`"
        )
    return value[len(_SCHEME) :].strip()


def _annotate(token: AccessToken) -> None:
    span = trace.get_current_span()
    span.set_attribute("enduser.id", token.principal.user_id)
    span.set_attribute("cirra.project_id", token.principal.project_id)
