"""A guest as its metadata shows it, and how it is found: by network and address, on the host where it is."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import asyncpg

from cirra.compute.v1 import events_pb2 as compute
from core.eventlog.schema import quote_identifier
from core.sealing import Keyring


@dataclass(frozen=True, slots=True)
class Nic:
    """One interface; `addresses` pair with `cidrs`, `gateways` and `nameservers` of their subnets."""

    port_id: str
    network_id: str
    mac_address: str
    mtu: int
    addresses: tuple[str, ...]
    cidrs: tuple[str, ...]
    gateways: tuple[str, ...]
    nameservers: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Guest:
    """`asked_by`: the port that the request came from. `created`: as accepted, its secrets opened."""

    instance_id: UUID
    created: compute.InstanceCreated
    zone: str
    nics: tuple[Nic, ...]
    asked_by: str

    @property
    def fixed_ip(self) -> str:
        """The address of the first interface; empty if there is none."""
        return self.nics[0].addresses[0] if self.nics and self.nics[0].addresses else ""


_FIND = """
SELECT p.port_id, i.instance_id, i.created, i.zone
FROM {schema}.ports p JOIN {schema}.instances i USING (instance_id)
WHERE p.network_id = $1 AND p.addresses @> ARRAY[$2]::text[] AND p.host = $3
"""

_NICS = """
SELECT p.port_id, p.network_id, p.mac, p.addresses, coalesce(n.mtu, 1500) AS mtu,
       array(SELECT s.cidr FROM unnest(p.subnets) WITH ORDINALITY u(id, place)
             JOIN {schema}.subnets s ON s.subnet_id = u.id ORDER BY place) AS cidrs,
       array(SELECT s.gateway FROM unnest(p.subnets) WITH ORDINALITY u(id, place)
             JOIN {schema}.subnets s ON s.subnet_id = u.id ORDER BY place) AS gateways,
       array(SELECT array_to_string(s.dns, ' ') FROM unnest(p.subnets) WITH ORDINALITY u(id, place)
             JOIN {schema}.subnets s ON s.subnet_id = u.id ORDER BY place) AS dns
FROM {schema}.ports p LEFT JOIN {schema}.networks n USING (network_id)
WHERE p.instance_id = $1
"""


class Guests:
    """Reads the projection, in any replica."""

    def __init__(self, pool: asyncpg.Pool, schema: str, keyring: Keyring) -> None:
        self._pool = pool
        self._find = _FIND.format(schema=quote_identifier(schema))
        self._nics = _NICS.format(schema=quote_identifier(schema))
        self._keyring = keyring

    async def find(self, network_id: UUID, address: str, host: str) -> Guest | None:
        """The guest with that address on that network, if that host is where its port is bound; else None."""
        row = await self._pool.fetchrow(self._find, network_id, address, host)
        if row is None:
            return None
        sealed = compute.InstanceCreated.FromString(row["created"])
        created = await self._keyring.unseal(row["instance_id"], sealed)
        nics = {str(each["port_id"]): _nic(each) for each in await self._pool.fetch(self._nics, row["instance_id"])}
        order = [nic.port for nic in created.nics if nic.port in nics]
        return Guest(
            instance_id=row["instance_id"],
            created=created,
            zone=row["zone"],
            nics=tuple(nics[port_id] for port_id in (*order, *sorted(nics.keys() - set(order)))),
            asked_by=str(row["port_id"]),
        )


def _nic(row: asyncpg.Record) -> Nic:
    return Nic(
        port_id=str(row["port_id"]),
        network_id=str(row["network_id"]),
        mac_address=row["mac"],
        mtu=row["mtu"],
        addresses=tuple(row["addresses"]),
        cidrs=tuple(row["cidrs"]),
        gateways=tuple(row["gateways"]),
        nameservers=tuple(tuple(each.split()) for each in row["dns"]),
    )
