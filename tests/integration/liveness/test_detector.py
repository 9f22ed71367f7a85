"""The detector: who is declared, who is not, and what a takeover does to that. With real processes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import pytest

from cirra.placement.v1 import events_pb2 as pb
from core.eventlog.errors import UniqueViolation
from placement.hosts.host import Evacuation, Health
from tests.harness.promptness import in_rounds, in_time
from tests.integration.liveness.replicas import WINDOW_S, Replica
from tests.integration.liveness.world import DOWN_S, LATE_S, BeatingHost, World

pytestmark = pytest.mark.asyncio(loop_scope="module")

Replicas = tuple[Replica, Replica]
Hosts = list[BeatingHost]
Test = Callable[..., Awaitable[None]]


def from_the_beginning(test: Test) -> Test:
    """All is as ever when a round of it begins."""

    @wraps(test)
    async def rounds(quiet_world: World, replicas: Replicas, hosts: Hosts, **more: Any) -> None:
        async def play() -> None:
            await quiet_world.as_ever(replicas, hosts)
            await test(quiet_world=quiet_world, replicas=replicas, hosts=hosts, **more)

        await in_rounds(play, late_s=LATE_S, pids=lambda: [pid for replica in replicas for pid in replica.pids])

    return rounds


async def _roles(world: World, replicas: Replicas) -> tuple[Replica, Replica, int]:
    """Who detects, who listens, and the term."""
    detector = await world.detector()
    mine = [replica for replica in replicas if detector.replica.startswith(replica.name)]
    others = [replica for replica in replicas if replica not in mine]
    return mine[0], others[0], detector.term


@from_the_beginning
async def test_a_rack_that_is_cut_off_is_declared_and_its_evacuation_waits_for_a_person(
    quiet_world: World, replicas: Replicas, hosts: Hosts
) -> None:
    rack, others = hosts[:4], hosts[4:]
    before = await quiet_world.position()
    for host in rack:
        await host.silence()
    for host in rack:
        # The first may have been declared before the others fell: it is held as they are.
        found = await quiet_world.until_host(host, lambda it: it.evacuation is Evacuation.HELD, DOWN_S)
        assert found.health is Health.DOWN
    assert sorted(await quiet_world.downs(before)) == sorted(host.name for host in rack)
    await quiet_world.all_up(others)
    held = [each for each in await quiet_world.declared(before) if each.event == "HostEvacuationHeld"]
    assert {each.host for each in held} == {host.name for host in rack}
    together = max(each.message.silent_hosts for each in held)
    in_time(together == 4, f"nobody else is silent: {together} are")
    assert all("fell silent together" in each.message.reason for each in held)
    for host in rack:
        host.beat()
        assert (await quiet_world.until(host, Health.UP)).evacuation is Evacuation.NONE


@from_the_beginning
async def test_one_that_falls_alone_is_not_held(quiet_world: World, replicas: Replicas, hosts: Hosts) -> None:
    alone = hosts[0]
    await alone.silence()
    await quiet_world.until(alone, Health.DOWN, DOWN_S)
    await asyncio.sleep(WINDOW_S / 2)
    in_time((await quiet_world.aggregate(alone)).evacuation is Evacuation.ALLOWED, "nobody is silent with it")
    alone.beat()
    await quiet_world.until(alone, Health.UP)


@from_the_beginning
async def test_a_reboot_without_a_silence_is_told(quiet_world: World, replicas: Replicas, hosts: Hosts) -> None:
    """Within the window, and yet all guests are gone."""
    host = hosts[0]
    await host.silence()
    before = await quiet_world.position()
    for boot_id in ("boot-2", host.boot_id):
        again = BeatingHost(host.name, host.bus, boot_id=boot_id)
        again.beat()
        try:
            await quiet_world.until_boot(host, boot_id, WINDOW_S * 2)
        finally:
            await again.silence()
    host.beat()
    assert {each.event for each in await quiet_world.declared(before)} <= {"HostUp", "HostSuspected"}


@pytest.mark.parametrize("how", ["SIGKILL", "SIGSTOP"])
@from_the_beginning
async def test_another_takes_over(quiet_world: World, replicas: Replicas, hosts: Hosts, how: str) -> None:
    gone, dead, *others = hosts
    await gone.silence()
    await quiet_world.until(gone, Health.DOWN, DOWN_S)
    victim, heir, term = await _roles(quiet_world, replicas)
    before = await quiet_world.position()
    if how == "SIGKILL":
        await victim.end(signal.SIGKILL)
    else:
        victim.stop()
    await dead.silence()
    detector = await quiet_world.takeover(term, replicas)
    assert detector.replica.startswith(heir.name) and detector.term == term + 1

    await quiet_world.until(dead, Health.DOWN, DOWN_S)
    listened = await quiet_world.first(pb.HostDown, before) - await quiet_world.first(pb.DetectorTookOver, before)
    assert listened.total_seconds() >= WINDOW_S, "a full window of listening first"
    assert await quiet_world.downs(before) == [dead.name], "nobody else, nor again who was down before"
    held = [each.host for each in await quiet_world.declared(before) if each.event == "HostEvacuationHeld"]
    in_time(held == [], "it fell alone: the other did long before")

    woken_at = await quiet_world.position()
    if how == "SIGSTOP":
        victim.wake()
    else:
        await victim.start()
    # Whatever it believes: two windows in which it could have said so.
    await asyncio.sleep(WINDOW_S * 2)
    assert await quiet_world.of_earlier_terms(woken_at, term + 1) == []
    await quiet_world.nothing_declared(woken_at, hosts)
    in_time((await quiet_world.detector()).term == term + 1, "nobody takes over from who renews its lease")
    await quiet_world.all_up(others)
    for host in (gone, dead):
        host.beat()
        await quiet_world.until(host, Health.UP)


@from_the_beginning
async def test_what_a_detector_of_an_earlier_term_still_says_is_refused(
    quiet_world: World, replicas: Replicas, hosts: Hosts
) -> None:
    """Stopped between its look at the lease and its append: no signal from without hits that moment."""
    stale = await quiet_world.aggregate(hosts[0])
    victim, _, term = await _roles(quiet_world, replicas)
    await victim.end(signal.SIGKILL)
    await quiet_world.takeover(term, replicas)
    stale.declare_down(["compute"], term=term)
    with pytest.raises(UniqueViolation):
        await quiet_world.repository.save(stale)
    await quiet_world.all_up(hosts[:1])
    await victim.start()


@from_the_beginning
async def test_what_is_known_of_services_moves_with_the_detector(
    quiet_world: World, replicas: Replicas, hosts: Hosts
) -> None:
    """A replica that starts after another has died tells of it all the same; one that left in order is forgotten."""
    first, second = replicas
    await second.end(signal.SIGKILL)
    await quiet_world.until_service(first, ("placement", second.name), up=False)
    dead = hosts[0]
    await dead.silence()
    await quiet_world.until(dead, Health.DOWN, DOWN_S)
    # Once it is written down, the one that knew is gone as well, and comes back.
    await quiet_world.until_on_roll(dead, up=False)
    await quiet_world.until_on_roll(hosts[1], up=True)
    await first.end(signal.SIGKILL)
    await first.start()
    known = await quiet_world.services(first)
    assert not known["placement", second.name].up, "heard by nobody who lives"
    assert not known["compute-agent", dead.name].up
    assert known["compute-agent", hosts[1].name].up
    assert known["compute-agent", hosts[1].name].version == "1.2.3"
    assert known["placement", second.name].host == "machine-1"
    await second.start()
    await quiet_world.until_service(first, ("placement", second.name), up=True)
    await second.end(signal.SIGTERM)
    await quiet_world.until_forgotten(first, ("placement", second.name))
    await second.start()
    dead.beat()
    await quiet_world.until(dead, Health.UP)
