"""What every host shall have: one row per object, projected from the events that change it.

A row stays until its host has confirmed that the object is absent, so a host that was away learns of deletions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
from google.protobuf.message import DecodeError

from cirra.agent.v1 import desired_pb2 as agent
from cirra.compute.v1 import events_pb2 as compute
from cirra.network.v1 import events_pb2 as network
from cirra.placement.v1 import events_pb2 as placement
from core.eventlog.schema import quote_identifier
from core.eventlog.types import RecordedEvent
from core.projection import Projection

DDL = """
CREATE TABLE desired (
    host text NOT NULL, agent text NOT NULL, kind text NOT NULL, object_id uuid NOT NULL,
    generation bigint NOT NULL, absent boolean NOT NULL, image_id text NOT NULL, payload bytea NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (host, kind, object_id)
);
CREATE INDEX desired_by_position ON desired (host, agent, position);
CREATE TABLE hosts (host text PRIMARY KEY, down boolean NOT NULL, accepted_epoch bigint NOT NULL);
"""

_UPSERT = """
INSERT INTO desired (host, agent, kind, object_id, generation, absent, image_id, payload, position)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (host, kind, object_id) DO UPDATE
SET generation = excluded.generation, absent = excluded.absent, image_id = excluded.image_id,
    payload = excluded.payload, position = excluded.position
"""

_CONCERNED = frozenset(
    (
        "cirra.compute.v1.InstanceDomainDesired",
        "cirra.network.v1.PortBindingDesired",
        "cirra.placement.v1.HostEnrolled",
        "cirra.placement.v1.HostUp",
        "cirra.placement.v1.HostDown",
        "cirra.placement.v1.HostDifferencesAccepted",
    )
)


class DesiredStateProjection(Projection):
    """Projection `conductor-desired`."""

    name = "conductor-desired"
    version = 2
    ddl = DDL
    gather_s = 0.25

    def __init__(self) -> None:
        # What hosts shall have by the events since the last flush: the last wish for each object.
        self._wishes: dict[tuple[str, str, UUID], Sequence[Any]] = {}

    def concerns(self, event: RecordedEvent) -> bool:
        try:
            return event.type in _CONCERNED or _confirmed(event) is not None
        except DecodeError:
            return True  # `apply` finds out, and halts there

    async def reset(self, connection: asyncpg.Connection) -> None:
        await connection.execute("DROP TABLE IF EXISTS desired, hosts")

    async def flush(self, connection: asyncpg.Connection) -> None:
        wishes, self._wishes = self._wishes, {}
        if wishes:
            await connection.executemany(_UPSERT, wishes.values())

    def forget(self) -> None:
        self._wishes.clear()

    async def apply(self, connection: asyncpg.Connection, event: RecordedEvent) -> None:
        if (confirmed := _confirmed(event)) is not None:
            await self.flush(connection)
            await self._confirm(connection, confirmed, event)
            return
        match event.type:
            case "cirra.compute.v1.InstanceDomainDesired":
                self._wish(compute.InstanceDomainDesired.FromString(event.data).desired, event)
            case "cirra.network.v1.PortBindingDesired":
                self._wish(network.PortBindingDesired.FromString(event.data).desired, event)
            case "cirra.placement.v1.HostEnrolled":
                await self._enrolled(connection, placement.HostEnrolled.FromString(event.data).host, event.epoch)
            case "cirra.placement.v1.HostUp":
                await self._host(connection, placement.HostUp.FromString(event.data).host, down=False)
            case "cirra.placement.v1.HostDown":
                await self._host(connection, placement.HostDown.FromString(event.data).host, down=True)
            case "cirra.placement.v1.HostDifferencesAccepted":
                await self._accepted(connection, placement.HostDifferencesAccepted.FromString(event.data))

    def _wish(self, desired: agent.DesiredObject, event: RecordedEvent) -> None:
        # Only the command of the step that makes a guest may create: what is kept for reconcile may not.
        kept = agent.DesiredObject()
        kept.CopyFrom(desired)
        kept.create = False
        self._wishes[desired.host, desired.kind, event.aggregate_id] = (
            desired.host,
            desired.agent,
            desired.kind,
            event.aggregate_id,
            desired.generation,
            desired.absent,
            desired.domain.image.image_id,
            kept.SerializeToString(),
            event.position,
        )

    async def _confirm(self, connection: asyncpg.Connection, confirmed: Confirmed, event: RecordedEvent) -> None:
        await connection.execute(
            "DELETE FROM desired WHERE host = $1 AND kind = $2 AND object_id = $3 AND absent AND generation <= $4",
            confirmed.host,
            confirmed.kind,
            event.aggregate_id,
            confirmed.generation,
        )

    async def _enrolled(self, connection: asyncpg.Connection, host: str, epoch: int) -> None:
        """A new host has nothing to differ in; one that is enrolled again has."""
        await connection.execute(
            "INSERT INTO hosts VALUES ($1, false, $2) ON CONFLICT (host) DO UPDATE SET down = false", host, epoch
        )

    async def _host(self, connection: asyncpg.Connection, host: str, *, down: bool) -> None:
        await connection.execute("UPDATE hosts SET down = $2 WHERE host = $1", host, down)

    async def _accepted(self, connection: asyncpg.Connection, accepted: placement.HostDifferencesAccepted) -> None:
        await connection.execute(
            "UPDATE hosts SET accepted_epoch = greatest(accepted_epoch, $2) WHERE host = $1",
            accepted.host,
            accepted.epoch,
        )


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A host has said that an object of this kind is absent, by what was wished in that generation."""

    host: str
    kind: str
    generation: int


def _confirmed(event: RecordedEvent) -> Confirmed | None:
    """What the event says of an absence; None for all others, and for what hosts say of things that are there."""
    if event.type == "cirra.compute.v1.InstanceDomainObserved":
        domain = compute.InstanceDomainObserved.FromString(event.data)
        absent = domain.observed.state == agent.DOMAIN_STATE_ABSENT
        return Confirmed(domain.host, "domain", domain.generation) if absent else None
    if event.type == "cirra.network.v1.PortBindingObserved":
        port = network.PortBindingObserved.FromString(event.data)
        return Confirmed(port.host, "port", port.generation) if port.observed.absent else None
    return None


@dataclass(frozen=True, slots=True)
class HostStanding:
    """Whether a host can be told anything. `epoch`: the log's; `accepted_epoch`: 0 for a host that is not known."""

    epoch: int
    accepted_epoch: int
    down: bool

    @property
    def observe_only(self) -> bool:
        """The log was restored, and nobody has accepted yet what differs there."""
        return self.accepted_epoch < self.epoch


class DesiredState:
    """Reads the projection, in any replica."""

    def __init__(self, pool: asyncpg.Pool, schema: str, log_schema: str) -> None:
        self._pool = pool
        self._schema = quote_identifier(schema)
        self._standing = (
            f"SELECT head.epoch, coalesce(hosts.accepted_epoch, 0), coalesce(hosts.down, false)"
            f" FROM {quote_identifier(log_schema)}.head LEFT JOIN {self._schema}.hosts ON hosts.host = $1"
        )

    async def of_host(self, host: str, agent_name: str, since: int) -> list[agent.DesiredObject]:
        """The objects whose desired state changed after position `since`; all of them for 0."""
        rows = await self._pool.fetch(
            f"SELECT payload FROM {self._schema}.desired WHERE host = $1 AND agent = $2 AND position > $3 "
            "ORDER BY position",
            host,
            agent_name,
            since,
        )
        return [agent.DesiredObject.FromString(row["payload"]) for row in rows]

    async def host_uses_image(self, host: str, image_id: str) -> bool:
        """Whether a guest that is assigned to the host is made of the image."""
        found = await self._pool.fetchval(
            f"SELECT EXISTS (SELECT FROM {self._schema}.desired WHERE host = $1 AND image_id = $2 AND NOT absent)",
            host,
            image_id,
        )
        return bool(found)

    async def hosts(self) -> list[str]:
        """Every enrolled host."""
        return [row["host"] for row in await self._pool.fetch(f"SELECT host FROM {self._schema}.hosts ORDER BY host")]

    async def standing(self, host: str) -> HostStanding:
        """Of a host, now."""
        rows = await self._pool.fetch(self._standing, host)
        return HostStanding(*rows[0])
