"""Guests that have asked before, until something happens to them: a boot is dozens of requests within seconds.

What is remembered is true as of a position of the log. Events come in as they happen; one that is about the guest, one
of its ports, networks or groups, and younger than that position, ends it. So an answer is no older than the
projection's, but for the moment that an event takes to come here; and if none come at all, no older than TTL_S.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from cirra.compute.v1 import events_pb2 as compute
from cirra.network.v1 import events_pb2 as network
from core.eventlog.types import RecordedEvent
from core.ids import parse_uuid
from metadata.guest import Guest

TTL_S = 10.0
GUESTS = 4_096
CHANGES = 65_536

_CONCERNED = frozenset(("instance", "port", "network", "security_group"))
# Changes nothing that a guest is told, and comes of its own asking.
_FETCHED = compute.InstanceMetadataFetched.DESCRIPTOR.full_name
_DEVICE: dict[str, type[network.PortCreated] | type[network.PortDeviceSet]] = {
    message.DESCRIPTOR.full_name: message for message in (network.PortCreated, network.PortDeviceSet)
}

Key = tuple[UUID, str, str]


class Source(Protocol):
    """Where guests are found."""

    async def find(self, network_id: UUID, address: str, host: str) -> Guest | None: ...


@dataclass(frozen=True, slots=True)
class _Entry:
    guest: Guest
    position: int
    read_at: float
    depends_on: frozenset[UUID]


class GuestCache:
    """`projected`: the position that the source's rows have at least."""

    def __init__(
        self, source: Source, projected: Callable[[], int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._source = source
        self._projected = projected
        self._clock = clock
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._changes: OrderedDict[UUID, int] = OrderedDict()
        # Changes up to here are not remembered one by one.
        self._floor = 0

    def remembered(self, network_id: UUID, address: str, host: str) -> Guest | None:
        """Without looking."""
        key = (network_id, address, host)
        entry = self._entries.get(key)
        if entry is None or not self._is_true(entry):
            return None
        self._entries.move_to_end(key)
        return entry.guest

    async def find(self, network_id: UUID, address: str, host: str) -> Guest | None:
        """As `Source.find`."""
        key = (network_id, address, host)
        guest = self.remembered(*key)
        if guest is not None:
            return guest
        position = self._projected()
        guest = await self._source.find(*key)
        if guest is not None:
            self._entries[key] = _Entry(guest, position, self._clock(), frozenset(_depends_on(guest)))
            self._entries.move_to_end(key)
            if len(self._entries) > GUESTS:
                self._entries.popitem(last=False)
        return guest

    def _is_true(self, entry: _Entry) -> bool:
        return (
            entry.position >= self._floor
            and self._clock() - entry.read_at < TTL_S
            and all(self._changes.get(each, 0) <= entry.position for each in entry.depends_on)
        )

    def begin(self, position: int) -> None:
        """Events come from here on; what happened before is not known one by one."""
        self._entries.clear()
        self._changes.clear()
        self._floor = position

    def happened(self, event: RecordedEvent) -> None:
        """In order of position, at least all that changes what guests are told."""
        if event.aggregate_type not in _CONCERNED or event.type == _FETCHED:
            return
        self._changed(event.aggregate_id, event.position)
        told = _DEVICE.get(event.type)
        device_id = parse_uuid(told.FromString(event.data).device_id) if told else None
        if device_id is not None:
            self._changed(device_id, event.position)

    def _changed(self, aggregate_id: UUID, position: int) -> None:
        self._changes[aggregate_id] = position
        self._changes.move_to_end(aggregate_id)
        if len(self._changes) > CHANGES:
            _, self._floor = self._changes.popitem(last=False)


def _depends_on(guest: Guest) -> Iterable[UUID]:
    yield guest.instance_id
    for nic in guest.nics:
        yield UUID(nic.port_id)
        yield UUID(nic.network_id)
        yield from (UUID(group.group_id) for group in nic.security_groups)
