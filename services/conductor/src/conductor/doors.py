"""Which peer may knock at which door: hosts at theirs, services of the control plane at all others."""

from __future__ import annotations

from core.errors import PermissionDenied
from core.pki.identity import Identity
from core.rpc.authorization import services_only

HOSTS = "/cirra.agent.v1.HostAgentService/"


def authorize(method: str, peer: Identity | None) -> None:
    """Raises PermissionDenied. What a host may see of its door is decided there, object by object."""
    if not method.startswith(HOSTS):
        services_only(method, peer)
    elif peer is not None and peer.kind != "host":
        raise PermissionDenied(f"{peer} is no host", reason="HOSTS_ONLY")
