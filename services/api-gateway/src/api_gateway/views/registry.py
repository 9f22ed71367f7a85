"""All views, and which of them an event changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

# Imported for what it registers.
from api_gateway.views import host_gateway as _host_gateway  # noqa: F401
from api_gateway.views import standstill as _standstill  # noqa: F401
from api_gateway.views.catalog import FLAVOR, KEY_PAIR
from api_gateway.views.floating_ip import FLOATING_IP
from api_gateway.views.identity import PROJECT, USER
from api_gateway.views.image import IMAGE
from api_gateway.views.instance import INSTANCE
from api_gateway.views.network import NETWORK, PORT, SUBNET
from api_gateway.views.operation import OPERATION
from api_gateway.views.placement import AGGREGATE, HOST
from api_gateway.views.router import ROUTER
from api_gateway.views.security_group import SECURITY_GROUP
from api_gateway.views.server_group import SERVER_GROUP
from api_gateway.views.view import View

VIEWS: tuple[View[Any], ...] = (
    PROJECT,
    USER,
    FLAVOR,
    KEY_PAIR,
    IMAGE,
    NETWORK,
    SUBNET,
    PORT,
    ROUTER,
    FLOATING_IP,
    INSTANCE,
    OPERATION,
    HOST,
    AGGREGATE,
    SERVER_GROUP,
    SECURITY_GROUP,
)


def _by_event_type() -> Mapping[str, tuple[View[Any], ...]]:
    found: dict[str, list[View[Any]]] = defaultdict(list)
    for view in VIEWS:
        for event_type in view.event_types:
            found[event_type].append(view)
    return {event_type: tuple(views) for event_type, views in found.items()}


VIEWS_OF_EVENT: Mapping[str, tuple[View[Any], ...]] = _by_event_type()
"""Full name of an event's message → the views that it changes."""

VIEW_OF_KIND: Mapping[str, View[Any]] = {view.kind: view for view in VIEWS}
