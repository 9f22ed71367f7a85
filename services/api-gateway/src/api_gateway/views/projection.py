"""The live read model: one row per resource, kept by the reducers of the views."""

from __future__ import annotations

from typing import Any

import asyncpg

from api_gateway.views.decoding import decode
from api_gateway.views.registry import VIEWS_OF_EVENT
from api_gateway.views.view import Row, View
from core.eventlog.types import RecordedEvent

NAME = "gateway"
# Raise it when the tables or the meaning of a reducer change: the read model is then built again from zero.
VERSION = 1

_DDL = """
    CREATE TABLE resources (
        kind            text    COLLATE "C" NOT NULL,
        uid             text    COLLATE "C" NOT NULL,
        project_id      text    COLLATE "C" NOT NULL,
        parent          text    COLLATE "C" NOT NULL,  -- uid of what it is a part of
        about           text    COLLATE "C" NOT NULL,  -- uid of what it serves
        display_name    text    COLLATE "C" NOT NULL,
        host            text    COLLATE "C" NOT NULL,
        state           text    COLLATE "C" NOT NULL,
        public          boolean NOT NULL,
        resource        bytea   NOT NULL,              -- the public protobuf message
        create_position bigint  NOT NULL,
        update_position bigint  NOT NULL,
        deleted         boolean NOT NULL,
        PRIMARY KEY (kind, uid)
    ) WITH (fillfactor = 70);
    CREATE INDEX resources_by_uid ON resources (uid);
    CREATE INDEX resources_by_project ON resources (kind, project_id, uid) WHERE NOT deleted;
    CREATE INDEX resources_by_name ON resources (kind, display_name) WHERE NOT deleted;
    CREATE INDEX resources_by_parent ON resources (kind, parent, uid) WHERE NOT deleted;
    CREATE INDEX resources_by_host ON resources (kind, host, uid) WHERE NOT deleted;
    CREATE INDEX resources_about ON resources (about, kind, uid);
"""
_SELECT = "SELECT resource, create_position, update_position, deleted FROM resources WHERE kind = $1 AND uid = $2"
_UPSERT = """
    INSERT INTO resources (kind, uid, project_id, parent, about, display_name, host, state, public, resource,
                           create_position, update_position, deleted)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
    ON CONFLICT (kind, uid) DO UPDATE SET
        project_id = excluded.project_id, parent = excluded.parent, about = excluded.about,
        display_name = excluded.display_name, host = excluded.host, state = excluded.state,
        public = excluded.public, resource = excluded.resource, update_position = excluded.update_position,
        deleted = excluded.deleted
"""


class GatewayProjection:
    """Projection `gateway`: table `resources`."""

    name = NAME
    version = VERSION
    ddl = _DDL

    async def reset(self, connection: asyncpg.Connection) -> None:
        await connection.execute("DROP TABLE IF EXISTS resources")

    async def apply(self, connection: asyncpg.Connection, event: RecordedEvent) -> None:
        """Raises DecodeError for an event that can't be read: the projection halts there."""
        views = VIEWS_OF_EVENT.get(event.type)
        if views is None:
            return
        message = decode(event)
        if message is None:
            return
        for view in views:
            uid = view.uid_of(event, message)
            row = view.apply(await _load(connection, view, uid), event, message)
            if row is not None:
                await _store(connection, view, row)


async def _load(connection: asyncpg.Connection, view: View[Any], uid: str) -> Row[Any] | None:
    found = await connection.fetchrow(_SELECT, view.kind, uid)
    if found is None:
        return None
    resource = view.resource_class.FromString(found["resource"])
    return Row(view.kind, uid, resource, found["create_position"], found["update_position"], found["deleted"])


async def _store(connection: asyncpg.Connection, view: View[Any], row: Row[Any]) -> None:
    columns = view.columns(row.resource)
    await connection.execute(
        _UPSERT,
        view.kind,
        row.uid,
        columns.project_id,
        columns.parent,
        columns.about,
        columns.display_name,
        columns.host,
        columns.state,
        columns.public,
        row.resource.SerializeToString(deterministic=True),
        row.create_position,
        row.update_position,
        row.deleted,
    )
