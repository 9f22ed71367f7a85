"""Server groups when many claims and releases come at once, over two replicas: the constraint rows are exact."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pytest

from cirra.placement.v1 import scheduling_pb2 as api
from cirra.placement.v1 import scheduling_pb2_grpc
from core.errors import CirraError, ResourceExhausted
from core.ids import claim_aggregate_id, uuid7
from core.testing.servers import Cell
from placement.claims import groups
from placement.claims.claim import Claim
from tests.harness.control_plane import ControlPlane, control_plane
from tests.harness.fake_host import FakeHost

RESOURCES = api.Resources(vcpus=1, memory_mib=64, disk_gib=1)


@pytest.fixture
async def plane(cell: Cell, tmp_path: Path) -> AsyncIterator[ControlPlane]:
    """Three hosts with room for twenty guests each."""
    async with control_plane(cell, tmp_path) as plane:
        hosts = [FakeHost(f"host-{number}", cell, vcpus=5) for number in range(1, 4)]
        for host in hosts:
            await host.start(plane.register_host)
        await plane.hosts_are_up(*(host.name for host in hosts))
        yield plane
        for host in hosts:
            await host.stop()


class Doors:
    """Both replicas in turn."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self._doors: list[Any] = [
            scheduling_pb2_grpc.SchedulingServiceStub(plane.dial([address])) for address in plane.placement_addresses
        ]
        self._turn = 0

    def next(self) -> Any:
        self._turn += 1
        return self._doors[self._turn % len(self._doors)]

    async def claim(self, group: api.GroupRule, claim_id: str = "") -> str:
        """The host, or why there was none."""
        request = api.ClaimRequest(claim_id=claim_id or str(uuid7()), attempt=1, resources=RESOURCES, group=group)
        try:
            return str((await self.next().Claim(request)).host)
        except CirraError as error:
            return error.reason

    async def release(self, claim_id: str, **how: bool) -> None:
        await self.next().ReleaseClaim(api.ReleaseClaimRequest(claim_id=claim_id, attempt=1, **how))


def group(policy: api.GroupPolicy.ValueType, most: int = 0) -> api.GroupRule:
    return api.GroupRule(group_id=str(uuid7()), policy=policy, max_servers_per_host=most)


@pytest.mark.parametrize("most", [1, 2])
async def test_apart(plane: ControlPlane, most: int) -> None:
    doors, rule = Doors(plane), group(api.GROUP_POLICY_ANTI_AFFINITY, most)
    outcomes = Counter(await asyncio.gather(*(doors.claim(rule) for _ in range(30))))
    assert outcomes == {"host-1": most, "host-2": most, "host-3": most, "NO_VALID_HOST": 30 - 3 * most}


async def test_together(plane: ControlPlane) -> None:
    doors, rule = Doors(plane), group(api.GROUP_POLICY_AFFINITY)
    outcomes = Counter(await asyncio.gather(*(doors.claim(rule) for _ in range(30))))
    # One host has room for twenty.
    assert sorted(outcomes.values()) == [10, 20]
    assert outcomes["NO_VALID_HOST"] == 10


async def test_members_that_come_and_go_at_once_are_together_at_any_moment(plane: ControlPlane) -> None:
    doors, rule, random = Doors(plane), group(api.GROUP_POLICY_AFFINITY), Random(7)
    left: list[str] = []

    async def member() -> None:
        for _ in range(6):
            claim_id = str(uuid7())
            assert (await doors.claim(rule, claim_id)).startswith("host-")
            if random.random() < 0.9:
                await doors.release(claim_id)
            else:
                left.append(claim_id)

    await asyncio.gather(*(member() for _ in range(8)))
    log = plane.repository.log
    claims = [await plane.repository.load(Claim, claim_aggregate_id(UUID(claim_id))) for claim_id in left]
    hosts = {claim.held.host for claim in claims if claim.held}
    assert (await log.counter(groups.MEMBERS, rule.group_id)).used == len(left)
    assert len(hosts) <= 1
    assert await log.unique_owner(groups.HOST, rule.group_id) == (hosts.pop() if hosts else None)
    await asyncio.gather(*(doors.release(claim_id) for claim_id in left))
    assert (await log.counter(groups.MEMBERS, rule.group_id)).used == 0
    assert await log.unique_owner(groups.HOST, rule.group_id) is None


async def test_a_host_that_may_still_have_a_member_keeps_the_group(plane: ControlPlane) -> None:
    doors, rule, claim_id = Doors(plane), group(api.GROUP_POLICY_AFFINITY), str(uuid7())
    home = await doors.claim(rule, claim_id)
    await doors.release(claim_id, pending_cleanup=True)
    log = plane.repository.log
    assert await log.unique_owner(groups.HOST, rule.group_id) == home
    assert await doors.claim(rule) == home
    await doors.next().ConfirmCleanup(api.ConfirmCleanupRequest(claim_id=claim_id, host=home))
    assert (await log.counter(groups.MEMBERS, rule.group_id)).used == 1


async def test_why_there_was_no_host_is_recorded_once_per_attempt(plane: ControlPlane) -> None:
    doors, claim_id = Doors(plane), str(uuid7())
    request = api.ClaimRequest(claim_id=claim_id, attempt=1, resources=api.Resources(vcpus=100))
    for _ in range(3):
        with pytest.raises(ResourceExhausted) as refused:
            await doors.next().Claim(request)
    events = await plane.repository.log.read_aggregate(claim_aggregate_id(UUID(claim_id)))
    assert [event.type.rpartition(".")[2] for event in events] == ["ClaimRefused"]
    claim = await plane.repository.load(Claim, claim_aggregate_id(UUID(claim_id)))
    assert claim.refused_attempt == 1 and claim.held is None
    assert "vcpus: 3 hosts removed, 0 of 60 used, at most 20 free, 100 asked" in refused.value.message
    # What was refused may be asked again, for less.
    assert (await doors.next().Claim(api.ClaimRequest(claim_id=claim_id, attempt=1, resources=RESOURCES))).host
