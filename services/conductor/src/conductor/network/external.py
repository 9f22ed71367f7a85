"""External networks as their users need them: a provider's, where routers have their way out."""

from __future__ import annotations

from uuid import UUID

from conductor.network.network import Network
from conductor.requests import load_live
from core.errors import FailedPrecondition, NotFound
from core.repository import Repository


async def load_external(repository: Repository, field: str, network_id: UUID, *, project_id: str) -> Network:
    """Raises NotFound for a network that the project can't see, FailedPrecondition for one that is not external."""
    network = await load_live(repository, Network, network_id)
    if network.external:
        return network
    if not network.usable_by(project_id):
        raise NotFound(f"no network {network_id}", metadata={"field": field})
    raise FailedPrecondition(
        f"{field}: network {network_id} is not external",
        reason="NETWORK_NOT_EXTERNAL",
        remedy="give an external network (`cirra network list` tells which are): administrators make them",
        metadata={"field": field},
    )
