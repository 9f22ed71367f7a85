"""The live read model: one row per resource, kept by the reducers of the views."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import asyncpg

from api_gateway.views.decoding import decode
from api_gateway.views.registry import VIEW_OF_KIND, VIEWS_OF_EVENT
from api_gateway.views.view import Row, View
from core.eventlog.types import RecordedEvent
from core.projection import Projection

NAME = "gateway"
# Raise it when the tables or the meaning of a reducer change: the read model is then built again from zero.
VERSION = 5
# How many rows the active projector keeps in memory, a kilobyte or two each.
_REMEMBERED = 10_000

Key = tuple[str, str]

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


class GatewayProjection(Projection):
    """Projection `gateway`: table `resources`.

    It remembers the rows that it changed last: nobody else writes them while it is active. What a transaction's events
    change is written at its end, each row once.
    """

    name = NAME
    version = VERSION
    ddl = _DDL
    # Longer than the events of a step are apart; who has written something waits for it, and not for this.
    gather_s = 0.1

    def __init__(self) -> None:
        self._rows: OrderedDict[Key, Row[Any]] = OrderedDict()
        self._changed: dict[Key, Row[Any]] = {}

    def concerns(self, event: RecordedEvent) -> bool:
        return event.type in VIEWS_OF_EVENT

    async def reset(self, connection: asyncpg.Connection) -> None:
        self.forget()
        await connection.execute("DROP TABLE IF EXISTS resources")

    async def apply(self, connection: asyncpg.Connection, event: RecordedEvent) -> None:
        """Raises DecodeError for an event that can't be read: the projection halts there."""
        message = decode(event)
        if message is None:
            return
        for view in VIEWS_OF_EVENT[event.type]:
            uid = view.uid_of(event, message)
            if not uid:
                continue
            key = (view.kind, uid)
            row = view.apply(await self._find(connection, view, event, uid), event, message)
            if row is not None:
                self._rows[key] = self._changed[key] = row
                self._rows.move_to_end(key)

    async def flush(self, connection: asyncpg.Connection) -> None:
        changed, self._changed = list(self._changed.values()), {}
        if changed:
            await connection.executemany(_UPSERT, map(_columns, changed))
        while len(self._rows) > _REMEMBERED:
            self._rows.popitem(last=False)

    def forget(self) -> None:
        self._rows.clear()
        self._changed.clear()

    async def _find(
        self, connection: asyncpg.Connection, view: View[Any], event: RecordedEvent, uid: str
    ) -> Row[Any] | None:
        known = self._rows.get((view.kind, uid))
        if known is not None:
            return known
        if event.version == 1 and uid == str(event.aggregate_id):
            return None  # nothing has happened to it before
        found = await connection.fetchrow(_SELECT, view.kind, uid)
        if found is None:
            return None
        resource = view.resource_class.FromString(found["resource"])
        return Row(view.kind, uid, resource, found["create_position"], found["update_position"], found["deleted"])


def _columns(row: Row[Any]) -> tuple[Any, ...]:
    """The arguments of `_UPSERT`."""
    columns = VIEW_OF_KIND[row.kind].columns(row.resource)
    return (
        row.kind,
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
