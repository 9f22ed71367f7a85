"""Watching: the present state first, then each change, by the same reducers that keep the read model.

A watcher subscribes to the feed before it reads the present state, so that nothing is missed in between; a `Fold` takes
in no event twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from uuid import UUID

from api_gateway.api.call import Call
from api_gateway.api.present import shown_instance
from api_gateway.views.fold import Fold
from api_gateway.views.instance import INSTANCE
from api_gateway.views.network import PORT
from api_gateway.views.operation import OPERATION
from api_gateway.views.store import Query
from api_gateway.views.view import Row
from cirra.compute.v1 import compute_pb2 as compute
from cirra.operations.v1 import operations_pb2 as operations
from core.eventlog.types import RecordedEvent
from core.ids import last_segment, parse_uuid

_MOMENT_S = 0.05


async def watch_instances(call: Call, name: str) -> AsyncIterator[compute.WatchInstancesResponse]:
    """Of one instance, until it is gone; or, without a name, of all of the caller's project."""
    with call.parts.feed.subscribe() as subscription:
        await call.parts.caught_up(subscription.after)
        watched = await _watched(call, name)
        for row in watched.present():
            yield watched.response(row, watched.position)
        async for event in subscription:
            if event.position <= watched.position:
                continue
            for row in watched.changed_by(event):
                yield watched.response(row, event.position)
                if row.deleted and watched.only:
                    return


async def watch_operation(call: Call, name: str, *, settled_only: bool) -> AsyncIterator[operations.Operation]:
    """Of one operation, until it is done. Changes that come within a moment are one; the last is told at once.

    *settled_only*: nothing but what it is when it is done, or stuck.
    """
    uid = parse_uuid(last_segment(name)) or UUID((await call.reader.find(OPERATION, name)).uid)
    with call.parts.feed.subscribe(uid, after=call.parts.projector.position()) as subscription:
        await call.parts.caught_up(subscription.after)
        row = await call.reader.find(OPERATION, name)
        fold = Fold([row], only=[OPERATION])
        if settled_only:
            while not _settled(row.resource):
                _changes(fold, await subscription.batch())
            yield row.resource
            return
        yield _copy(row.resource)
        while not row.resource.done:
            changed = _changes(fold, await subscription.batch())
            with suppress(TimeoutError):
                async with asyncio.timeout(_MOMENT_S):
                    while changed and not row.resource.done:
                        _changes(fold, await subscription.batch())
            if changed:
                yield _copy(row.resource)


class _Watched:
    """The instances that are watched, and their ports. `only`: the uid of the one; `position`: of the rows read."""

    def __init__(self, call: Call, fold: Fold, position: int, project_id: str, only: str) -> None:
        self.position = position
        self.only = only
        self._call = call
        self._fold = fold
        self._project_id = project_id

    def present(self) -> list[Row[compute.Instance]]:
        return sorted(self._fold.rows(INSTANCE), key=lambda row: row.uid)

    def changed_by(self, event: RecordedEvent) -> list[Row[compute.Instance]]:
        """The watched instances that an event changes, themselves or by a port of theirs."""
        changed: dict[str, Row[compute.Instance]] = {}
        for row in self._fold.apply(event):
            if row.resource.project_id != self._project_id:
                self._fold.forget(row)
                continue
            instance = row if row.kind == INSTANCE.kind else self._fold.get(INSTANCE, row.resource.device_id)
            if instance is not None and self.only in ("", instance.uid):
                changed[instance.uid] = instance
            if row.deleted:
                self._fold.forget(row)
        return list(changed.values())

    def response(self, row: Row[compute.Instance], position: int) -> compute.WatchInstancesResponse:
        ports = {nic.port: port for nic in row.resource.nics if (port := self._fold.get(PORT, nic.port)) is not None}
        instance = shown_instance(self._call.reader, row, ports)
        return compute.WatchInstancesResponse(instance=instance, position=position, deleted=row.deleted)


async def _watched(call: Call, name: str) -> _Watched:
    reader, store = call.reader, call.parts.store
    if name:
        row = await reader.find(INSTANCE, name)
        only, project_id, query = row.uid, row.resource.project_id, Query(uids=[row.uid])
    else:
        only, project_id = "", reader.principal.project_id
        query = Query(filters={"project_id": project_id})
    instances = await store.query(INSTANCE, reader.principal, query)
    uids = {nic.port for row in instances.rows for nic in row.resource.nics if nic.port}
    ports = await store.query(PORT, None, Query(uids=uids, deleted_too=True))
    fold = Fold([*instances.rows, *ports.rows], only=[INSTANCE, PORT])
    return _Watched(call, fold, instances.position, project_id, only)


def _changes(fold: Fold, events: Iterable[RecordedEvent]) -> bool:
    """Takes the events in; whether any of them changed a row."""
    return any([fold.apply(event) for event in events])


def _settled(operation: operations.Operation) -> bool:
    return operation.done or operation.state == operations.OPERATION_STATE_STUCK


def _copy(operation: operations.Operation) -> operations.Operation:
    copy = operations.Operation()
    copy.CopyFrom(operation)
    return copy
