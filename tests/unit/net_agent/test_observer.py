from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

from google.protobuf.message import Message

from cirra.agent.v1.desired_pb2 import AddressSeen, LeaseSeen
from net_agent.drivers.base import Lease, Neighbour
from net_agent.drivers.simulated import Behaviour, SimulatedDriver
from net_agent.observer import GuestObserver
from tests.unit.net_agent.samples import make_port


class Told:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.facts: list[tuple[str, Message]] = []
        self.bus_is_away = False

    async def __call__(self, kind: str, object_id: str, facts: Message) -> bool:
        assert kind == "port"
        if self.bus_is_away:
            raise ConnectionError
        self.facts.append((object_id, facts))
        return True


class Watched(SimulatedDriver):
    """Counts how often leases and neighbours are read."""

    async def leases(self, network_ids: frozenset[str] | None = None) -> list[Lease]:
        self.calls["leases"] += 1
        return list(await super().leases(network_ids))

    async def neighbours(self, network_ids: frozenset[str] | None = None) -> list[Neighbour]:
        self.calls["neighbours"] += 1
        return list(await super().neighbours(network_ids))


class Quiet(SimulatedDriver):
    """Its guests have leases, and use their addresses only later."""

    is_quiet = True

    async def neighbours(self, network_ids: frozenset[str] | None = None) -> list[Neighbour]:
        return [] if self.is_quiet else list(await super().neighbours(network_ids))


async def test_each_fact_is_told_once(tmp_path: Path) -> None:
    driver, told = Watched(tmp_path), Told()
    observer = GuestObserver(driver, told)
    port = make_port(11)
    await driver.plug(port)
    for _ in range(3):
        await observer.look()
    lease = LeaseSeen(mac_address=port.mac_address, ip_address="10.0.0.11", client_hostname="guest-11")
    seen = AddressSeen(mac_address=port.mac_address, ip_address="10.0.0.11", lease=lease)
    assert told.facts == [(port.port_id, seen)]
    # Once all have been seen there is nothing to look for.
    assert (driver.calls["leases"], driver.calls["neighbours"]) == (1, 1)


async def test_what_is_seen_at_another_look_is_told_by_itself(tmp_path: Path) -> None:
    driver, told = Quiet(tmp_path), Told()
    observer = GuestObserver(driver, told)
    port = make_port(11)
    await driver.plug(port)
    await observer.look()
    lease = LeaseSeen(mac_address=port.mac_address, ip_address="10.0.0.11", client_hostname="guest-11")
    assert told.facts == [(port.port_id, lease)]
    driver.is_quiet = False
    await observer.look()
    assert told.facts[1:] == [(port.port_id, AddressSeen(mac_address=port.mac_address, ip_address="10.0.0.11"))]


async def test_an_address_more_is_looked_for(tmp_path: Path) -> None:
    driver, told = Watched(tmp_path), Told()
    observer = GuestObserver(driver, told)
    port = make_port(11)
    await driver.plug(port)
    await observer.look()
    await observer.look()
    told.facts.clear()
    await driver.plug(replace(port, addresses=(*port.addresses, IPv4Address("10.0.0.99"))))
    for _ in range(3):
        await observer.look()
    assert [facts.ip_address for _, facts in told.facts] == ["10.0.0.99"]  # type: ignore[attr-defined]
    assert (driver.calls["leases"], driver.calls["neighbours"]) == (2, 2)


async def test_an_address_that_a_port_has_again_is_told_again(tmp_path: Path) -> None:
    driver, told = Watched(tmp_path), Told()
    observer = GuestObserver(driver, told)
    port = make_port(11)
    for address in (port.addresses[0], IPv4Address("10.0.0.99"), port.addresses[0]):
        await driver.plug(replace(port, addresses=(address,)))
        for _ in range(2):
            await observer.look()
    assert [facts.ip_address for _, facts in told.facts] == ["10.0.0.11", "10.0.0.99", "10.0.0.11"]  # type: ignore[attr-defined]


async def test_an_address_that_a_guest_uses_on_is_no_news(tmp_path: Path) -> None:
    """Its port has lost it, and the guest doesn't know yet."""

    class Slow(SimulatedDriver):
        async def neighbours(self, network_ids: frozenset[str] | None = None) -> list[Neighbour]:
            return [Neighbour(port.port_id, port.mac_address, "10.0.0.11")]

    driver, told = Slow(tmp_path), Told()
    observer = GuestObserver(driver, told)
    port = make_port(11)
    await driver.plug(port)
    await observer.look()
    await driver.plug(replace(port, addresses=(IPv4Address("10.0.0.99"),)))
    for _ in range(2):
        await observer.look()
    assert [type(facts) for _, facts in told.facts] == [AddressSeen, LeaseSeen]


async def test_nothing_is_told_before_the_guest_is_there(tmp_path: Path) -> None:
    now = 0.0
    driver, told = SimulatedDriver(tmp_path, Behaviour(lease_delay_s=5.0), monotonic=lambda: now), Told()
    observer = GuestObserver(driver, told)
    await driver.plug(make_port(11))
    await driver.plug(make_port(12, active=False))
    await observer.look()
    assert told.facts == []
    now = 5.0
    await observer.look()
    assert {port_id for port_id, _ in told.facts} == {make_port(11).port_id}


async def test_a_port_that_comes_back_is_observed_anew(tmp_path: Path) -> None:
    driver, told = SimulatedDriver(tmp_path), Told()
    observer = GuestObserver(driver, told)
    port = make_port(11)
    await driver.plug(port)
    await observer.look()
    await driver.plug(replace(port, active=False))
    await observer.look()
    await driver.plug(port)
    await observer.look()
    assert len(told.facts) == 2


async def test_what_could_not_be_told_is_told_later_and_the_loop_goes_on(tmp_path: Path) -> None:
    driver, told = SimulatedDriver(tmp_path), Told()
    told.bus_is_away = True
    observer = GuestObserver(driver, told, interval_s=0.001)
    await driver.plug(make_port(11))
    running = asyncio.create_task(observer.run())
    await asyncio.sleep(0.01)
    told.bus_is_away = False
    async with asyncio.timeout(60):
        while len(told.facts) < 1:  # noqa: ASYNC110 — the observer's own loop brings it about
            await asyncio.sleep(0.001)
    assert not running.done()
    running.cancel()
