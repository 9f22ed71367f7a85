"""The rows of derived objects: one per host and object, with the position of the event that changed it last.

A row whose object is gone stays for a while, so that differences tell of it: the rows of the last one or two *eras*, of
`ERA` positions each, are all there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import asyncpg

from cirra.agent.v1.desired_pb2 import DesiredObject
from conductor.fabric.derivation import Key, Look
from conductor.fabric.writing import Change

ERA = 10_000

DDL = """
CREATE TABLE fabric_objects (
    host text COLLATE "C" NOT NULL, kind text COLLATE "C" NOT NULL, object_id text COLLATE "C" NOT NULL,
    generation bigint NOT NULL, absent boolean NOT NULL, spec bytea NOT NULL,
    PRIMARY KEY (host, kind, object_id)
);
CREATE INDEX fabric_objects_by_generation ON fabric_objects (host, generation);
CREATE INDEX fabric_objects_absent ON fabric_objects (generation) WHERE absent;
"""

_FIND = """
SELECT o.host, o.kind, o.object_id, o.generation, o.absent, o.spec
FROM unnest($1::text[], $2::text[], $3::text[]) AS wanted (host, kind, object_id)
JOIN fabric_objects o USING (host, kind, object_id)
"""
_UPSERT = """
INSERT INTO fabric_objects (host, kind, object_id, generation, absent, spec)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::boolean[], $6::bytea[])
ON CONFLICT (host, kind, object_id) DO UPDATE
SET generation = excluded.generation, absent = excluded.absent, spec = excluded.spec
"""
_FORGET = "DELETE FROM fabric_objects WHERE absent AND generation <= $1"


@dataclass(frozen=True, slots=True)
class Row:
    """`spec`: a `DesiredObject` with nothing but its spec, encoded; None: absent."""

    generation: int
    spec: bytes | None


def kept_after(position: int) -> int:
    """At this position of the log, rows of what is gone are there from this generation on, exclusively: a difference
    since an earlier one would not tell all."""
    return max(0, (position // ERA - 1) * ERA)


def after(row: Row | None, looks: Iterable[Look]) -> Row | None:
    """What has become of a row. Untouched by a look that finds it as it is."""
    for look in looks:
        is_there = None if row is None else row.spec
        if is_there != look.spec:
            row = Row(look.position, look.spec)
    return row


async def find(connection: asyncpg.Connection, keys: Iterable[Key]) -> dict[Key, Row]:
    """Those of the rows that there are."""
    columns = list(zip(*keys, strict=True))
    found = await connection.fetch(_FIND, *columns) if columns else []
    return {
        (row["host"], row["kind"], row["object_id"]): Row(row["generation"], None if row["absent"] else row["spec"])
        for row in found
    }


def changes(rows: Mapping[Key, Row]) -> Iterator[Change]:
    """What makes them those that there are."""
    if rows:
        records = [(*key, row.generation, row.spec is None, row.spec or b"") for key, row in rows.items()]
        yield Change(_UPSERT, [list(column) for column in zip(*records, strict=True)])


async def forget_absent(connection: asyncpg.Connection, position: int) -> None:
    """What is gone for so long that no difference tells of it any more."""
    await connection.execute(_FORGET, kept_after(position))


def desired_object(key: Key, row: Row) -> DesiredObject:
    """As it is told to the host's net-agent; without its epoch, which is the log's when it is told."""
    desired = DesiredObject() if row.spec is None else DesiredObject.FromString(row.spec)
    desired.host, desired.kind, desired.object_id = key
    desired.agent, desired.generation, desired.absent = "net", row.generation, row.spec is None
    return desired
