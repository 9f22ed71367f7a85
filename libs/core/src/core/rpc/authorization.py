"""Rules of servers about who may call (see `core.rpc.server.serve`)."""

from __future__ import annotations

from core.errors import PermissionDenied
from core.pki.identity import Identity

_OPEN_TO_ALL = ("/grpc.health.v1.Health/", "/grpc.reflection.")


def services_only(method: str, peer: Identity | None) -> None:
    """For doors inside the control plane. Without TLS there are no identities, and tests of one part get in."""
    if peer is not None and peer.kind != "service" and not method.startswith(_OPEN_TO_ALL):
        raise PermissionDenied(f"{peer} may not call {method}", reason="SERVICES_ONLY")
