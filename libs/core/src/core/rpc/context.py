"""Who calls: the TLS peer (a service or a host), and the principal (a user) in whose name it calls.

Both are context variables of the task that serves one RPC, set by `core.rpc.interceptors`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from google.protobuf.message import DecodeError

from cirra.identity.v1.identity_pb2 import Principal
from core.errors import FieldViolation, InvalidArgument, PermissionDenied, Unauthenticated
from core.pki.identity import Identity
from core.rpc.metadata import ACTOR

_peer: ContextVar[Identity | None] = ContextVar("cirra_peer", default=None)
_principal: ContextVar[Principal | None] = ContextVar("cirra_principal", default=None)


def peer() -> Identity | None:
    """The identity in the verified certificate of the caller; None when it showed none (or there is no TLS)."""
    return _peer.get()


def set_peer(identity: Identity | None) -> None:
    """For the rest of this task, which serves one RPC."""
    _peer.set(identity)


def require_host(host: str) -> None:
    """Let only the enrolled host *host* pass: what is assigned to one host is nobody else's to see.

    Raises Unauthenticated without a certificate, PermissionDenied for any other identity.
    """
    identity = peer()
    if identity is None:
        raise Unauthenticated("a host's certificate is needed here")
    if identity != Identity.host(host):
        raise PermissionDenied(f"{identity} may not act for host {host}", reason="NOT_YOUR_HOST")


def current_principal() -> Principal | None:
    """The user in whose name this RPC was made; None for calls of the cloud itself."""
    return _principal.get()


def require_principal() -> Principal:
    """The calling user. Raises Unauthenticated when there is none."""
    principal = current_principal()
    if principal is None:
        raise Unauthenticated("a user is needed for this call", remedy="send an access token")
    return principal


def set_principal(principal: Principal | None) -> None:
    """For the rest of this task. The gateway calls it once the access token is verified."""
    _principal.set(principal)


@contextmanager
def acting_as(principal: Principal | None) -> Iterator[None]:
    """Within it, calls are made in the name of *principal*."""
    token = _principal.set(principal)
    try:
        yield
    finally:
        _principal.reset(token)


def principal_metadata(principal: Principal) -> tuple[str, bytes]:
    """The metadata entry that tells a service who is calling. Channels of `core.rpc.client` add it by themselves."""
    return ACTOR, principal.SerializeToString()


def parse_principal(data: bytes) -> Principal:
    """The inverse of `principal_metadata`. Raises InvalidArgument."""
    try:
        return Principal.FromString(data)
    except DecodeError as error:
        raise InvalidArgument(FieldViolation(ACTOR, "not a cirra.identity.v1.Principal")) from error
