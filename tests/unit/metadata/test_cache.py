"""What is remembered of guests, and when it is not believed any more."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from cirra.compute.v1 import events_pb2 as compute
from cirra.network.v1 import events_pb2 as network
from core.eventlog.types import RecordedEvent
from metadata import cache as module
from metadata.cache import TTL_S, GuestCache
from metadata.guest import Guest
from tests.unit.metadata.guests import FIRST, GUEST, INSTANCE, SECOND, WEB

NETWORK, ADDRESS, HOST = UUID(FIRST.network_id), "192.168.1.101", "host-1"


@dataclass
class Rows:
    """The documents: `position` is how far they are; `asked` how often they were read."""

    guest: Guest | None = GUEST
    position: int = 100
    now: float = 0.0
    asked: int = 0
    cache: GuestCache = field(init=False)

    def __post_init__(self) -> None:
        self.cache = GuestCache(self, lambda: self.position, lambda: self.now)

    async def find(self, network_id: UUID, address: str, host: str) -> Guest | None:
        self.asked += 1
        return self.guest

    async def ask(self, times: int = 1) -> int:
        """How often the rows were read for that."""
        before = self.asked
        for _ in range(times):
            assert await self.cache.find(NETWORK, ADDRESS, HOST) == self.guest
        return self.asked - before


def event(kind: str, aggregate_id: UUID, message: Any, position: int) -> RecordedEvent:
    return RecordedEvent(
        aggregate_type=kind,
        aggregate_id=aggregate_id,
        version=1,
        type=message.DESCRIPTOR.full_name,
        data=message.SerializeToString(),
        event_id=uuid4(),
        schema_version=1,
        position=position,
        epoch=1,
        recorded_at=datetime.now(UTC),
        actor="",
        request_id="",
        causation_id="",
        correlation_id="",
        traceparent="",
    )


async def test_who_asks_again_is_known() -> None:
    assert await Rows().ask(times=5) == 1


@pytest.mark.parametrize(
    ("kind", "aggregate_id", "message"),
    [
        ("instance", INSTANCE, compute.InstanceDeleted()),
        ("instance", INSTANCE, compute.InstanceHostAssigned(host="host-2")),
        ("port", UUID(FIRST.port_id), network.PortBindingDesired(host="host-2")),
        ("port", UUID(SECOND.port_id), network.PortDeleted()),
        ("network", UUID(SECOND.network_id), network.SubnetDeleted()),
        ("port", uuid4(), network.PortCreated(device_id=str(INSTANCE))),
        ("port", uuid4(), network.PortDeviceSet(device_id=str(INSTANCE))),
        ("port", UUID(FIRST.port_id), network.PortFloatingIpRemoved(floating_ip_id="f")),
        ("security_group", UUID(WEB.group_id), network.SecurityGroupUpdated(display_name="front")),
    ],
)
async def test_what_happens_to_a_guest_or_its_parts_is_looked_up(kind: str, aggregate_id: UUID, message: Any) -> None:
    rows = Rows()
    await rows.ask()
    rows.cache.happened(event(kind, aggregate_id, message, 101))
    # Until the rows have it, nothing that they tell is remembered.
    assert await rows.ask(times=3) == 3
    rows.position = 101
    assert await rows.ask(times=3) == 1


@pytest.mark.parametrize(
    ("kind", "aggregate_id", "message"),
    [
        ("instance", uuid4(), compute.InstanceDeleted()),
        ("port", uuid4(), network.PortCreated(device_id=str(uuid4()))),
        ("port", uuid4(), network.PortCreated()),
        ("saga", INSTANCE, compute.InstanceDeleted()),
        ("security_group", uuid4(), network.SecurityGroupUpdated()),
        ("instance", INSTANCE, compute.InstanceMetadataFetched()),
    ],
)
async def test_what_happens_to_others_is_of_no_concern(kind: str, aggregate_id: UUID, message: Any) -> None:
    rows = Rows()
    await rows.ask()
    rows.cache.happened(event(kind, aggregate_id, message, 101))
    assert await rows.ask() == 0


async def test_an_event_that_the_rows_had_already_changes_nothing() -> None:
    rows = Rows()
    await rows.ask()
    rows.cache.happened(event("instance", INSTANCE, compute.InstanceDeleted(), 100))
    assert await rows.ask() == 0


async def test_nothing_is_remembered_for_long() -> None:
    rows = Rows()
    await rows.ask()
    rows.now = TTL_S - 0.1
    assert await rows.ask() == 0
    rows.now = TTL_S
    assert await rows.ask() == 1


async def test_nobody_is_not_remembered() -> None:
    rows = Rows(guest=None)
    assert await rows.ask(times=3) == 3


async def test_where_events_begin_rows_must_have_come() -> None:
    rows = Rows()
    await rows.ask()
    rows.cache.begin(150)
    assert await rows.ask(times=2) == 2
    rows.position = 150
    assert await rows.ask(times=2) == 1


async def test_changes_that_are_forgotten_count_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHANGES", 2)
    rows = Rows()
    await rows.ask()
    for position in (101, 102, 103):
        rows.cache.happened(event("instance", uuid4(), compute.InstanceDeleted(), position))
    # One of them is not remembered: it might have been this guest.
    assert await rows.ask(times=2) == 2
    rows.position = 103
    assert await rows.ask(times=2) == 1


async def test_guests_beyond_a_number_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GUESTS", 2)
    rows = Rows()
    for address in ("10.0.0.1", "10.0.0.2", "10.0.0.3"):
        await rows.cache.find(NETWORK, address, HOST)
    before = rows.asked
    await rows.cache.find(NETWORK, "10.0.0.3", HOST)
    assert rows.asked == before
    await rows.cache.find(NETWORK, "10.0.0.1", HOST)
    assert rows.asked == before + 1
