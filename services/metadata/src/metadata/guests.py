"""How a guest is found: by network and address, on the host where its port is bound."""

from __future__ import annotations

import json
from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address
from typing import Any
from uuid import UUID

import asyncpg

from cirra.compute.v1 import events_pb2 as compute
from core import eui64
from core.eventlog.schema import quote_identifier
from core.sealing import Keyring
from metadata.guest import FixedIp, Guest, Nic, Subnet
from metadata.tree import Secret

# One round trip: 500 guests may ask at once. User data and password stay where they are.
_FIND = """
SELECT i.instance_id, i.created, i.zone, i.user_data IS NOT NULL AS has_user_data, (
    SELECT json_agg(json_build_object(
        'port', n.port_id, 'network', n.network_id, 'mac', n.mac, 'mtu', coalesce(w.mtu, 1500),
        'fixed_ips', (
            SELECT json_agg(json_build_object(
                'address', f.address, 'subnet', s.subnet_id, 'cidr', s.cidr, 'gateway', s.gateway, 'dhcp', s.dhcp,
                'dns', s.dns) ORDER BY f.place)
            FROM {schema}.fixed_ips f JOIN {schema}.subnets s USING (subnet_id) WHERE f.port_id = n.port_id
        )) ORDER BY n.port_id)
    FROM {schema}.ports n LEFT JOIN {schema}.networks w USING (network_id) WHERE n.instance_id = i.instance_id
) AS nics
FROM {found} JOIN {schema}.instances i USING (instance_id)
WHERE p.network_id = $1 AND {key} = $2 AND p.host = $3
"""
_BY_ADDRESS = {"found": "{schema}.fixed_ips a JOIN {schema}.ports p USING (port_id)", "key": "a.address"}
_BY_MAC = {"found": "{schema}.ports p", "key": "p.mac"}
_SECRET = "SELECT {column} FROM {schema}.instances WHERE instance_id = $1"


class Guests:
    """Reads the projection, in any replica."""

    def __init__(self, pool: asyncpg.Pool, schema: str, keyring: Keyring) -> None:
        quoted = quote_identifier(schema)
        self._pool = pool
        self._keyring = keyring
        self._by_address, self._by_mac = (
            _FIND.format(schema=quoted, found=by["found"].format(schema=quoted), key=by["key"])
            for by in (_BY_ADDRESS, _BY_MAC)
        )
        self._user_data = _SECRET.format(column="user_data", schema=quoted)
        self._password = _SECRET.format(column="password", schema=quoted)

    async def find(self, network_id: UUID, address: str, host: str) -> Guest | None:
        """The guest with that address on that network, if that host is where its port is bound; else None.

        An IPv6 address that is good on the link alone tells its MAC address: hosts let it pass from that one only.
        """
        mac_address = mac_of_link_local(address)
        query = self._by_address if mac_address is None else self._by_mac
        row = await self._pool.fetchrow(query, network_id, mac_address or address, host)
        if row is None:
            return None
        created = compute.InstanceCreated.FromString(row["created"])
        return Guest(
            instance_id=row["instance_id"],
            created=created,
            host_zone=row["zone"],
            has_user_data=row["has_user_data"],
            nics=_nics(json.loads(row["nics"]), [nic.port for nic in created.nics]),
        )

    async def open(self, instance_id: UUID, secret: Secret) -> bytes:
        """Its user data, or the password that it posted; empty if there is none, or nobody can open it any more."""
        if secret is Secret.USER_DATA:
            created = await self._unsealed(instance_id, self._user_data, compute.InstanceCreated)
            return bytes(created.user_data)
        posted = await self._unsealed(instance_id, self._password, compute.InstancePasswordPosted)
        return bytes(posted.password)

    async def _unsealed(self, instance_id: UUID, query: str, message_class: type[Any]) -> Any:
        sealed = await self._pool.fetchval(query, instance_id)
        return await self._keyring.unseal(instance_id, message_class.FromString(sealed or b""))


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
