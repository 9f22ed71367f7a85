"""One router as an operator wants to see it: its way out, what it is on, its routes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cirra_sdk.cli.output import Column, list_table, pairs_table
from cirra_sdk.cli.plain import time_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cirra.network.v1.router_pb2 import Router

_INTERFACES = (
    Column("Address", lambda interface: interface.ip_address, whole=True),
    Column("Range", lambda interface: interface.cidr),
    Column("MAC", lambda interface: interface.mac_address),
    Column("Subnet", lambda interface: interface.subnet),
    Column("Network", lambda interface: interface.network),
)
_ROUTES = (
    Column("Destination", lambda route: route.destination),
    Column("Next hop", lambda route: route.next_hop),
)


def router_tables(router: Router) -> Iterator[RenderableType]:
    """Its facts, its interfaces, its static routes."""
    yield pairs_table([pair for pair in _facts(router) if pair[1]])
    if router.interfaces:
        yield ""
        yield list_table(router.interfaces, _INTERFACES)
    if router.routes:
        yield ""
        yield list_table(router.routes, _ROUTES)


def _facts(router: Router) -> Iterator[tuple[str, str]]:
    yield "ID", router.uid
    yield "Name", router.display_name
    yield "External network", router.external_gateway.network or "none"
    if router.HasField("external_gateway"):
        yield "SNAT", "yes" if router.external_gateway.enable_snat else "no"
    yield "Project", router.project_id
    yield "Created", time_text(router.create_time)
    yield "Updated", time_text(router.update_time)
