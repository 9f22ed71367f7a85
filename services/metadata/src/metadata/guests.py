"""How a guest is found: by network and address, on the host where its port is bound."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from ipaddress import IPv6Address, ip_address
from typing import Any
from uuid import UUID

import asyncpg

from cirra.compute.v1 import events_pb2 as compute
from core import eui64
from core.eventlog.schema import quote_identifier
from core.sealing import Keyring
from metadata.guest import FixedIp, FloatingIp, Guest, Nic, SecurityGroup, Subnet
from metadata.together import Together
from metadata.tree import Secret

# One round trip for all who ask at once. User data and passwords stay where they are.
_FIND = """
SELECT q.n, i.instance_id, i.created, i.zone, i.user_data IS NOT NULL AS has_user_data, (
    SELECT json_agg(json_build_object(
        'port', n.port_id, 'network', n.network_id, 'mac', n.mac, 'mtu', coalesce(w.mtu, 1500),
        'fixed_ips', (
            SELECT json_agg(json_build_object(
                'address', f.address, 'subnet', s.subnet_id, 'cidr', s.cidr, 'gateway', s.gateway, 'dhcp', s.dhcp,
                'dns', s.dns) ORDER BY f.place)
            FROM {schema}.fixed_ips f JOIN {schema}.subnets s USING (subnet_id) WHERE f.port_id = n.port_id
        ),
        'security_groups', (
            SELECT json_agg(json_build_array(g.group_id, g.name) ORDER BY g.name, g.group_id)
            FROM {schema}.security_groups g WHERE g.group_id = ANY(n.security_groups)
        ),
        'floating_ips', (
            SELECT json_agg(json_build_array(l.address, l.fixed_address) ORDER BY f.place, l.address)
            FROM {schema}.floating_ips l
            JOIN {schema}.fixed_ips f ON f.port_id = l.port_id AND f.address = l.fixed_address
            WHERE l.port_id = n.port_id
        )) ORDER BY n.port_id)
    FROM {schema}.ports n LEFT JOIN {schema}.networks w USING (network_id) WHERE n.instance_id = i.instance_id
) AS nics
FROM unnest($1::uuid[], $2::text[], $3::text[]) WITH ORDINALITY AS q (network_id, key, host, n)
{found} JOIN {schema}.instances i ON i.instance_id = p.instance_id
WHERE p.network_id = q.network_id AND p.host = q.host
"""
_BY_ADDRESS = """
JOIN {schema}.fixed_ips a ON a.network_id = q.network_id AND a.address = q.key
JOIN {schema}.ports p ON p.port_id = a.port_id
"""
_BY_MAC = "JOIN {schema}.ports p ON p.mac = q.key"
_SECRETS = "SELECT instance_id, {column} AS sealed FROM {schema}.instances WHERE instance_id = ANY($1::uuid[])"

# Network, address or MAC address, host.
_Key = tuple[UUID, str, str]


class Guests:
    """Reads the projection, in any replica."""

    def __init__(self, pool: asyncpg.Pool, schema: str, keyring: Keyring) -> None:
        quoted = quote_identifier(schema)
        self._pool = pool
        self._keyring = keyring
        self._by_address, self._by_mac = (
            Together(partial(self._find, _FIND.format(schema=quoted, found=found.format(schema=quoted))))
            for found in (_BY_ADDRESS, _BY_MAC)
        )
        self._user_data, self._password = (
            Together(partial(self._sealed, _SECRETS.format(column=column, schema=quoted)))
            for column in ("user_data", "password")
        )

    async def find(self, network_id: UUID, address: str, host: str) -> Guest | None:
        """The guest with that address on that network, if that host is where its port is bound; else None.

        An IPv6 address that is good on the link alone tells its MAC address: hosts let it pass from that one only.
        """
        mac_address = mac_of_link_local(address)
        if mac_address is None:
            return await self._by_address.get((network_id, address, host))
        return await self._by_mac.get((network_id, mac_address, host))

    async def open(self, instance_id: UUID, secret: Secret) -> bytes:
        """Its user data, or the password that it posted; empty if there is none, or nobody can open it any more."""
        if secret is Secret.USER_DATA:
            created = compute.InstanceCreated.FromString(await self._user_data.get(instance_id) or b"")
            return bytes((await self._keyring.unseal(instance_id, created)).user_data)
        posted = compute.InstancePasswordPosted.FromString(await self._password.get(instance_id) or b"")
        return bytes((await self._keyring.unseal(instance_id, posted)).password)

    async def _find(self, query: str, keys: Sequence[_Key]) -> Mapping[_Key, Guest]:
        rows = await self._pool.fetch(query, *map(list, zip(*keys, strict=True)))
        return {keys[row["n"] - 1]: _guest(row) for row in rows}

    async def _sealed(self, query: str, instances: Sequence[UUID]) -> Mapping[UUID, bytes]:
        rows = await self._pool.fetch(query, list(instances))
        await self._keyring.prepare(instances)
        return {row["instance_id"]: row["sealed"] for row in rows if row["sealed"] is not None}


def _guest(row: asyncpg.Record) -> Guest:
    created = compute.InstanceCreated.FromString(row["created"])
    return Guest(
        instance_id=row["instance_id"],
        created=created,
        host_zone=row["zone"],
        has_user_data=row["has_user_data"],
        nics=_nics(json.loads(row["nics"]), [nic.port for nic in created.nics]),
    )


def mac_of_link_local(address: str) -> str | None:
    """None for any other address, and for one that was not made of a MAC address."""
    parsed = ip_address(address)
    if not isinstance(parsed, IPv6Address) or parsed not in eui64.LINK_LOCAL:
        return None
    return eui64.mac_of_address(parsed)


def _nics(found: Iterable[dict[str, Any]], order: list[str]) -> tuple[Nic, ...]:
    """In the order in which they were asked for; those that came later follow."""
    place = {port_id: index for index, port_id in enumerate(order)}
    nics = sorted(map(_nic, found), key=lambda nic: (place.get(nic.port_id, len(place)), nic.port_id))
    return tuple(nics)


def _nic(found: dict[str, Any]) -> Nic:
    return Nic(
        port_id=found["port"],
        network_id=found["network"],
        mac_address=found["mac"],
        mtu=found["mtu"],
        fixed_ips=tuple(map(_fixed_ip, found["fixed_ips"] or ())),
        security_groups=tuple(SecurityGroup(*each) for each in found["security_groups"] or ()),
        floating_ips=tuple(FloatingIp(*each) for each in found["floating_ips"] or ()),
    )


def _fixed_ip(found: dict[str, Any]) -> FixedIp:
    return FixedIp(
        address=found["address"],
        subnet=Subnet(
            subnet_id=found["subnet"],
            cidr=found["cidr"],
            gateway=found["gateway"],
            dhcp=found["dhcp"],
            nameservers=tuple(found["dns"]),
        ),
    )
