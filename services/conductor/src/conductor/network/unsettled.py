"""What of routers, floating IPs and ports is not as it should be by now: by the fabric's facts, in any replica."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import asyncpg

from core.eventlog.schema import quote_identifier


@dataclass(frozen=True, slots=True)
class WantedGateway:
    """What a host should be on an external network. `address`: some router there translates to it."""

    host: str
    network_id: str
    needed: bool
    address: bool


_GATEWAYS = """
SELECT coalesce(needed.host, present.host) AS host, coalesce(needed.network_id, present.network_id) AS network_id,
       needed.host IS NOT NULL AS needed, coalesce(needed.snat, false) AS address
FROM {schema}.fabric_ways_out needed FULL JOIN {schema}.fabric_host_gateways present
  ON present.host = needed.host AND present.network_id = needed.network_id
WHERE needed.host IS NULL OR present.host IS NULL OR needed.snat <> (present.address <> '')
ORDER BY 1, 2
"""
_ORPHANS = "SELECT floating_ip_id FROM {schema}.fabric_floating_ips WHERE orphaned ORDER BY 1"

_LACKING = "SELECT DISTINCT port_id FROM {schema}.fabric_lacking_addresses ORDER BY 1 LIMIT {limit}"
_ANY = "SELECT EXISTS ({gateways}) OR EXISTS ({orphans}) OR EXISTS ({lacking})"
# So many ports are settled by one look; the others by the next.
_PORTS_AT_ONCE = 500


class Unsettled:
    """`schema`: the conductor's."""

    def __init__(self, pool: asyncpg.Pool, schema: str) -> None:
        self._pool = pool
        self._gateways = _GATEWAYS.format(schema=quote_identifier(schema))
        self._lacking = _LACKING.format(schema=quote_identifier(schema), limit=_PORTS_AT_ONCE)
        self._orphans = _ORPHANS.format(schema=quote_identifier(schema))
        self._any = _ANY.format(gateways=self._gateways, orphans=self._orphans, lacking=self._lacking)

    async def any(self) -> bool:
        """Whether there is anything, which mostly there is not: one statement tells."""
        return bool(await self._pool.fetchval(self._any))

    async def gateways(self) -> list[WantedGateway]:
        """Hosts that need another gateway than they have, or one, or none any more."""
        return [WantedGateway(*row) for row in await self._pool.fetch(self._gateways)]

    async def orphans(self) -> list[UUID]:
        """Floating IPs whose port was deleted."""
        return [UUID(row["floating_ip_id"]) for row in await self._pool.fetch(self._orphans)]

    async def lacking(self) -> list[UUID]:
        """Ports without an address of a subnet whose guests make theirs themselves; some, when there are many."""
        return [UUID(row["port_id"]) for row in await self._pool.fetch(self._lacking)]
