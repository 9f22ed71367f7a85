"""The checker of invariants rebuilds every read model that there is: a new projection can't be forgotten."""

from __future__ import annotations

import api_gateway
import block_agent
import compute_agent
import conductor
import metadata
import net_agent
import placement
from core.projection import Projection
from tests.harness.every_saga import modules_below
from tests.harness.invariants import READ_MODELS

SERVICES = (api_gateway, block_agent, compute_agent, conductor, metadata, net_agent, placement)


def test_every_projection_of_a_service_is_compared_with_its_rebuild() -> None:
    defined = {
        each
        for service in SERVICES
        for module in modules_below(service)
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, Projection) and each is not Projection
    }
    assert defined == {projection for _, projection in READ_MODELS}
    assert len({projection.name for projection in defined}) == len(READ_MODELS)
