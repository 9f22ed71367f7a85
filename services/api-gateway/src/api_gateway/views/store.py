"""Reading the live read model. Each answer tells the position that it is as of, read in the same snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic

import asyncpg

from api_gateway.views.projection import NAME
from api_gateway.views.registry import VIEW_OF_KIND
from api_gateway.views.view import Audience, R, Row, View
from cirra.identity.v1.identity_pb2 import ROLE_ADMIN, Principal
from core.errors import Unavailable
from core.eventlog.schema import quote_identifier
from core.projection import ProjectionHalted

# $1 is the projection, $2 the kind, $3 the caller's project, $4 the caller.
_AUDIENCES: Mapping[Audience, str] = {
    Audience.PROJECT: "r.project_id = $3",
    Audience.PROJECT_OR_PUBLIC: "(r.project_id = $3 OR r.public)",
    Audience.PROJECT_OR_PUBLIC_PARENT: (
        "(r.project_id = $3 OR EXISTS (SELECT FROM {resources} p WHERE p.uid = r.parent AND p.public))"
    ),
    Audience.EVERYONE: "true",
    Audience.USER: "r.about = $4",
    Audience.ITSELF: "r.uid = $4",
    Audience.ADMINISTRATORS: "false",
}
_FILTERS = ("project_id", "parent", "about", "display_name", "host", "state")


def is_admin(principal: Principal) -> bool:
    """Whether the caller operates the cloud."""
    return ROLE_ADMIN in principal.roles


@dataclass(frozen=True, slots=True)
class Found(Generic[R]):
    """Rows, in the query's order, as of a position."""

    position: int
    rows: list[Row[R]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which rows of a kind. `filters`: column → value. `after`: a uid; `limit` None: all of them.

    In order of uid, which is that of creation; `newest_first`: the other way round.
    """

    filters: Mapping[str, str] = field(default_factory=dict)
    uids: Iterable[str] | None = None
    after: str = ""
    limit: int | None = None
    deleted_too: bool = False
    newest_first: bool = False


class Store:
    """`pool`: of the database that holds the schema."""

    def __init__(self, pool: asyncpg.Pool, schema: str) -> None:
        self._pool = pool
        self._resources = f"{quote_identifier(schema)}.resources"
        self._projections = f"{quote_identifier(schema)}.projections"

    async def query(self, view: View[R], principal: Principal | None, query: Query) -> Found[R]:
        """What the principal may see; None: the gateway itself, which sees all.

        Raises ProjectionHalted when the read model stands still, Unavailable when there is none yet.
        """
        seen_by_all = principal is None or is_admin(principal)
        arguments: list[Any] = [
            NAME,
            view.kind,
            principal.project_id if principal else "",
            principal.user_id if principal else "",
        ]
        conditions = [
            # The casts: an argument that a condition does not use has no type otherwise.
            "r.kind = $2 AND $3::text IS NOT NULL AND $4::text IS NOT NULL",
            "true" if seen_by_all else _AUDIENCES[view.audience].format(resources=self._resources),
        ]
        if not query.deleted_too:
            conditions.append("NOT r.deleted")
        for column in _FILTERS:
            if column in query.filters:
                arguments.append(query.filters[column])
                conditions.append(f"r.{column} = ${len(arguments)}")
        if query.uids is not None:
            arguments.append(list(query.uids))
            conditions.append(f"r.uid = ANY(${len(arguments)}::text[])")
        if query.after:
            arguments.append(query.after)
            conditions.append(f"r.uid {'<' if query.newest_first else '>'} ${len(arguments)}")
        arguments.append(query.limit)
        order = f"ORDER BY r.uid {'DESC' if query.newest_first else 'ASC'}"
        selection = (
            f"SELECT * FROM {self._resources} r WHERE {' AND '.join(conditions)}"
            f" {order} LIMIT ${len(arguments)}::bigint"
        )
        return await self._fetch(selection, order, arguments)

    async def of_uids(self, principal: Principal, uids: Mapping[View[Any], Iterable[str]]) -> Found[Any]:
        """Those of several views that the principal may see, and that are not deleted. Raises as `query`."""
        arguments: list[Any] = [NAME, "", principal.project_id, principal.user_id]
        seen: list[str] = []
        for view, its_uids in uids.items():
            audience = "true" if is_admin(principal) else _AUDIENCES[view.audience].format(resources=self._resources)
            arguments += [view.kind, list(its_uids)]
            which = f"r.kind = ${len(arguments) - 1} AND r.uid = ANY(${len(arguments)}::text[])"
            seen.append(f"({which} AND {audience})")
        given = "$2::text IS NOT NULL AND $3::text IS NOT NULL AND $4::text IS NOT NULL"
        selection = f"SELECT * FROM {self._resources} r WHERE {given} AND NOT r.deleted AND ({' OR '.join(seen)})"
        return await self._fetch(selection, "ORDER BY r.uid", arguments)

    async def _fetch(self, selection: str, order: str, arguments: list[Any]) -> Found[Any]:
        records = await self._pool.fetch(
            "SELECT p.position, p.halted_at, p.error, r.kind, r.uid, r.resource, r.create_position, r.update_position,"
            f" r.deleted FROM {self._projections} p LEFT JOIN ({selection}) r ON true WHERE p.name = $1 {order}",
            *arguments,
        )
        if not records:
            raise Unavailable("the read model is not built yet", remedy="try again in a moment")
        first = records[0]
        if first["halted_at"] is not None:
            raise ProjectionHalted(NAME, first["halted_at"], first["position"], first["error"])
        rows = [_row(VIEW_OF_KIND[record["kind"]], record) for record in records if record["uid"] is not None]
        return Found(first["position"], rows)

    async def find(self, view: View[R], uid: str) -> Row[R] | None:
        """The row, deleted or not, whoever may see it."""
        found = await self.query(view, None, Query(uids=[uid], deleted_too=True))
        return found.rows[0] if found.rows else None

    async def of_any_kind(self, uids: Iterable[str]) -> list[Row[Any]]:
        """The rows with these uids, deleted ones too, whoever may see them."""
        records = await self._pool.fetch(
            f"SELECT kind, uid, resource, create_position, update_position, deleted FROM {self._resources}"
            " WHERE uid = ANY($1::text[])",
            list(uids),
        )
        return [_row(VIEW_OF_KIND[record["kind"]], record) for record in records]

    async def uids_about(self, uid: str) -> list[str]:
        """The uids of what serves a resource: its ports, the operations on it; deleted ones too."""
        records = await self._pool.fetch(f"SELECT uid FROM {self._resources} WHERE about = $1", uid)
        return [record["uid"] for record in records]

    async def projects_of(self, uids: Iterable[str]) -> dict[str, str]:
        """uid → the project that it belongs to, for those that are known; "" for what belongs to none."""
        records = await self._pool.fetch(
            f"SELECT uid, max(project_id) AS project_id FROM {self._resources}"
            " WHERE uid = ANY($1::text[]) GROUP BY uid",
            list(uids),
        )
        return {record["uid"]: record["project_id"] for record in records}


def _row(view: View[R], record: asyncpg.Record) -> Row[R]:
    return Row(
        view.kind,
        record["uid"],
        view.resource_class.FromString(record["resource"]),
        record["create_position"],
        record["update_position"],
        record["deleted"],
    )
