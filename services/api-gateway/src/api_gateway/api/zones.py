"""Availability zones: what hosts say of themselves, and their aggregates for them."""

from __future__ import annotations

from collections import defaultdict

from api_gateway.api.call import Call
from api_gateway.api.fields import Fields
from api_gateway.views.placement import HOST
from api_gateway.views.store import Query
from cirra.placement.v1 import decisions_pb2 as pb
from cirra.placement.v1 import placement_pb2 as placement
from core.errors import PermissionDenied

FIELD = "availability_zone"


async def check_zone(fields: Fields, call: Call, asked: str) -> None:
    """Refuses a zone that no host is in, and for an administrator ("zone:host") a host that there is not.

    Raises PermissionDenied when anybody else names a host.
    """
    zone, colon, host = asked.partition(":")
    if colon and not call.reader.is_admin:
        raise PermissionDenied(f"instance.{FIELD}: only an administrator may name a host", remedy="give a zone alone")
    if colon and not await _there_is(call, {"display_name": host}):
        fields.refuse(FIELD, f"there is no host {host!r}: see `cirra host list`")
    if zone and not await _there_is(call, {"parent": zone}):
        fields.refuse(FIELD, f"there is no zone {zone!r}: see `cirra availability zone list`, or ask for none")


async def _there_is(call: Call, filters: dict[str, str]) -> bool:
    # Hosts are shown to administrators; that a zone exists is everyone's to know.
    return bool((await call.parts.store.query(HOST, None, Query(filters=filters, limit=1))).rows)


async def list_zones(call: Call) -> list[pb.AvailabilityZone]:
    """In order of name; with their hosts for an administrator."""
    by_zone: dict[str, list[placement.Host]] = defaultdict(list)
    for row in (await call.parts.store.query(HOST, None, Query())).rows:
        by_zone[row.resource.availability_zone].append(row.resource)
    return [
        pb.AvailabilityZone(
            name=zone,
            available=any(host.enabled and host.state == placement.HOST_STATE_UP for host in hosts),
            hosts=sorted(host.name.removeprefix("hosts/") for host in hosts) if call.reader.is_admin else [],
        )
        for zone, hosts in sorted(by_zone.items())
    ]
