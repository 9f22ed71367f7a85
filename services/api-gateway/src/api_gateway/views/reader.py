"""Reads in the name of one caller: what it may see, found by resource name, uid or display name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from api_gateway.views.store import Found, Query, Store, is_admin
from api_gateway.views.view import R, Row, View
from cirra.identity.v1.identity_pb2 import Principal
from core.errors import FieldViolation, InvalidArgument, NotFound, Unavailable
from core.ids import last_segment, parse_uuid

_MAX_CANDIDATES = 10


class Reader:
    """`position`: the highest that an answer so far was as of. `at_least`: what answers must hold. One that does not
    (the read model has just been begun anew) is none: Unavailable."""

    def __init__(self, store: Store, principal: Principal) -> None:
        self.principal = principal
        self.position = 0
        self.at_least = 0
        self._store = store
        # By kind and uid, what was read ahead; None: there is none that the caller may see.
        self._ahead: dict[tuple[str, str], Row[Any] | None] = {}

    @property
    def is_admin(self) -> bool:
        return is_admin(self.principal)

    async def query(self, view: View[R], query: Query) -> list[Row[R]]:
        """What the caller may see of a kind."""
        return self._noted(await self._store.query(view, self.principal, query)).rows

    async def of_uid(self, view: View[R], uid: str, *, deleted_too: bool = True) -> Row[R] | None:
        """The resource, if there is one that the caller may see."""
        rows = await self.query(view, Query(uids=[uid], deleted_too=deleted_too))
        return rows[0] if rows else None

    async def by_uid(self, view: View[R], uids: Iterable[str]) -> Mapping[str, Row[R]]:
        """Parts of what the caller may see, whoever they belong to; deleted ones too."""
        found = self._noted(await self._store.query(view, None, Query(uids=uids, deleted_too=True)))
        return {row.uid: row for row in found.rows}

    async def read_ahead(self, named: Iterable[tuple[View[Any], str]]) -> None:
        """Reads at once what `find` is going to be asked for: of names that hold uids, which most do."""
        uids: dict[View[Any], set[str]] = {}
        for view, name in named:
            if (uid := parse_uuid(last_segment(name))) is not None:
                uids.setdefault(view, set()).add(str(uid))
        if sum(map(len, uids.values())) < 2:
            return
        found = self._noted(await self._store.of_uids(self.principal, uids)).rows
        self._ahead |= {(view.kind, uid): None for view, its_uids in uids.items() for uid in its_uids}
        self._ahead |= {(row.kind, row.uid): row for row in found}

    async def find(self, view: View[R], name: str, *, field: str = "name", deleted_too: bool = False) -> Row[R]:
        """The resource of a resource name, a uid, or a display name that only one has.

        Raises NotFound, also for what the caller may not see; InvalidArgument for an empty or ambiguous name.
        """
        if not name:
            raise InvalidArgument(FieldViolation(field, f"it is empty: give the name of one {view.title}"))
        rows = await self._candidates(view, name, deleted_too)
        if len(rows) > 1:
            names = ", ".join(_resource_name(row) for row in rows[:_MAX_CANDIDATES])
            more = " and others" if len(rows) > _MAX_CANDIDATES else ""
            raise InvalidArgument(
                FieldViolation(field, f"{name!r} is the name of several: give one of {names}{more}"),
                reason="AMBIGUOUS_NAME",
            )
        if not rows:
            raise NotFound(
                f"no {view.title} {name!r}", remedy="check the name and the project", metadata={"field": field}
            )
        return rows[0]

    async def _candidates(self, view: View[R], name: str, deleted_too: bool) -> list[Row[R]]:
        uid = parse_uuid(last_segment(name))
        if uid is not None:
            rows = await self._of_name(view, str(uid), deleted_too)
            return [row for row in rows if "/" not in name or _resource_name(row) == name]
        if "/" in name and not view.named_by_display_name:
            return []
        query = Query(filters={"display_name": last_segment(name)}, limit=_MAX_CANDIDATES + 1)
        if self.is_admin and self.principal.project_id:
            # An administrator sees every project; a name means what it does in the own one, if it does there.
            filters = {**query.filters, "project_id": self.principal.project_id}
            own = await self.query(view, replace(query, filters=filters))
            if own:
                return own
        rows = await self.query(view, query)
        return [row for row in rows if "/" not in name or _resource_name(row) == name]

    async def _of_name(self, view: View[R], uid: str, deleted_too: bool) -> list[Row[R]]:
        if deleted_too or (view.kind, uid) not in self._ahead:
            return await self.query(view, Query(uids=[uid], deleted_too=deleted_too))
        row = self._ahead[view.kind, uid]
        return [] if row is None else [row]

    def _noted(self, found: Found[R]) -> Found[R]:
        if found.position < self.at_least:
            raise read_model_behind(self.at_least)
        self.position = max(self.position, found.position)
        return found


def read_model_behind(position: int) -> Unavailable:
    """What to raise where the position is wanted."""
    return Unavailable(
        f"the read model has not reached position {position} yet",
        reason="READ_MODEL_BEHIND",
        remedy="try again in a moment",
        metadata={"position": str(position)},
    )


def _resource_name(row: Row[Any]) -> str:
    name: str = row.resource.name
    return name
