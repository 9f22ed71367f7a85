"""Who may call: the peer's identity, the user it speaks for, and the rule that a server applies to both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core.errors import Unauthenticated
from core.pki.identity import Identity, peer_identity
from core.rpc import context
from core.rpc.interceptors.call import Handler, Layer, ServerCall
from core.rpc.metadata import ACTOR

# (method, "/package.Service/Method"; the peer or None). Raises PermissionDenied or Unauthenticated.
Authorizer = Callable[[str, Identity | None], None]


def identification(trust_domain: str | None, *, require_peer: bool) -> Layer:
    """The layer that tells who calls.

    *trust_domain* None: a server without TLS, which serves the tests of one part; it believes what it is told. With
    TLS, only a service of the control plane may speak for a user: from a host or a stranger, an actor is ignored.
    """

    def layer(handler: Handler) -> Handler:
        async def identified(call: ServerCall, request: Any) -> Any:
            identity = _peer(call, trust_domain, require_peer)
            context.set_peer(identity)
            actor = call.metadata.get(ACTOR)
            trusted = trust_domain is None or (identity is not None and identity.kind == "service")
            context.set_principal(context.parse_principal(actor) if trusted and isinstance(actor, bytes) else None)
            return await handler(call, request)

        return identified

    return layer


def authorization(authorize: Authorizer) -> Layer:
    """The layer that applies a server's rule."""

    def layer(handler: Handler) -> Handler:
        async def authorized(call: ServerCall, request: Any) -> Any:
            authorize(call.method, context.peer())
            return await handler(call, request)

        return authorized

    return layer


def _peer(call: ServerCall, trust_domain: str | None, require_peer: bool) -> Identity | None:
    if trust_domain is None:
        return None
    try:
        return peer_identity(call.context.auth_context(), trust_domain)
    except Unauthenticated:
        if require_peer:
            raise
        return None
