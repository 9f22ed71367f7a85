"""Claims by the hundred over two replicas, and hosts that are heard, fall silent, and are heard again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cirra.placement.v1 import scheduling_pb2 as api
from cirra.placement.v1 import scheduling_pb2_grpc
from core.errors import CirraError, FailedPrecondition, ResourceExhausted, Unavailable
from core.ids import host_aggregate_id, uuid7
from core.saga.state import SagaStatus
from core.testing.servers import Cell
from placement.hosts.host import Health
from placement.scheduling import claiming
from tests.harness.control_plane import PATIENCE_S, ControlPlane, control_plane
from tests.harness.fake_host import FakeHost
from tests.harness.replicas import WINDOW_S

# Where hosts fall silent. The others must not, though the machine is busy.
SHORT_WINDOW_S = 4.0
hosts_fall_silent = pytest.mark.parametrize("window_s", [SHORT_WINDOW_S])


@pytest.fixture
def window_s() -> float:
    """For how long a host may be silent."""
    return WINDOW_S


@pytest.fixture
async def plane(cell: Cell, tmp_path: Path, window_s: float) -> AsyncIterator[ControlPlane]:
    async with control_plane(cell, tmp_path, window_s=window_s) as plane:
        yield plane


@pytest.fixture
async def hosts(plane: ControlPlane) -> list[FakeHost]:
    """Three hosts with room for sixty guests of one vCPU: 3 times 5 vCPUs at a ratio of 4."""
    hosts = [await plane.add_host(FakeHost(f"host-{number}", plane.cell, vcpus=5)) for number in range(1, 4)]
    await plane.hosts_are_up(*(host.name for host in hosts))
    return hosts


def door(plane: ControlPlane, replica: int) -> Any:
    return scheduling_pb2_grpc.SchedulingServiceStub(plane.dial([plane.placement_addresses[replica]]))


def request(claim_id: str = "", *, attempt: int = 1, vcpus: int = 1) -> api.ClaimRequest:
    resources = api.Resources(vcpus=vcpus, memory_mib=64, disk_gib=1)
    return api.ClaimRequest(claim_id=claim_id or str(uuid7()), attempt=attempt, resources=resources)


async def test_a_hundred_claims_at_once_take_exactly_what_is_there(plane: ControlPlane, hosts: list[FakeHost]) -> None:
    doors = [door(plane, 0), door(plane, 1)]

    async def claim(number: int) -> str:
        try:
            answer = await doors[number % 2].Claim(request())
        except CirraError as error:
            return error.reason
        return str(answer.host)

    outcomes = Counter(await asyncio.gather(*(claim(number) for number in range(100))))
    assert outcomes == {"host-1": 20, "host-2": 20, "host-3": 20, "NO_VALID_HOST": 40}
    used = [await plane.repository.log.counter("capacity/vcpus", host.name) for host in hosts]
    assert used == [(20, 20)] * 3


async def test_nobody_is_hurried_by_a_claim(plane: ControlPlane, hosts: list[FakeHost]) -> None:
    log = plane.repository.log
    told: asyncio.Queue[str] = asyncio.Queue()
    async with log.pool.acquire() as connection:

        def hear(connection: object, pid: int, channel: str, payload: object) -> None:
            told.put_nowait(str(payload))

        await connection.add_listener(f"{log.schema}.events", hear)
        made = await door(plane, 0).Claim(request())
        async with asyncio.timeout(PATIENCE_S):
            while (payload := await told.get()).split()[0] != str(made.position):
                continue
        await connection.remove_listener(f"{log.schema}.events", hear)
    assert payload == f"{made.position} patient"


async def test_no_valid_host_tells_the_filters(plane: ControlPlane, hosts: list[FakeHost]) -> None:
    with pytest.raises(ResourceExhausted) as refused:
        await door(plane, 0).Claim(request(vcpus=21))
    assert refused.value.reason == "NO_VALID_HOST"
    assert "0 of 3 hosts" in str(refused.value)
    assert refused.value.metadata["removed_by_vcpus"] == "3"


async def test_the_same_claim_again_is_the_same_answer_on_any_replica(
    plane: ControlPlane, hosts: list[FakeHost]
) -> None:
    asked = request()
    answers = await asyncio.gather(*(door(plane, number % 2).Claim(asked) for number in range(6)))
    assert len({answer.host for answer in answers}) == 1
    used = sum([(await plane.repository.log.counter("capacity/vcpus", host.name))[0] for host in hosts])
    assert used == 1


async def test_a_claim_that_comes_after_its_release_is_refused(plane: ControlPlane, hosts: list[FakeHost]) -> None:
    asked = request()
    await door(plane, 1).ReleaseClaim(api.ReleaseClaimRequest(claim_id=asked.claim_id, attempt=1))
    with pytest.raises(FailedPrecondition) as refused:
        await door(plane, 0).Claim(asked)
    assert refused.value.reason == "CLAIM_RELEASED"


@hosts_fall_silent
async def test_a_host_is_suspected_down_and_up_again(plane: ControlPlane, hosts: list[FakeHost]) -> None:
    silent = hosts[0]
    await silent.stop()
    await plane.host_is(silent.name, Health.DOWN)
    events = await plane.repository.log.read_aggregate(host_aggregate_id(silent.name))
    names = [event.type.rpartition(".")[2] for event in events]
    assert "HostSuspected" in names and names[-1] == "HostDown"
    answers = [(await door(plane, 0).Claim(request())).host for _ in range(6)]
    assert silent.name not in answers
    await silent.start(plane.register_host)
    await plane.host_is(silent.name, Health.UP)


@hosts_fall_silent
async def test_the_only_host_that_can_is_waited_for_while_its_agents_restart(plane: ControlPlane) -> None:
    """A claim says that it waits, and a create does."""
    host = await plane.add_host(FakeHost("host-1", plane.cell))
    await plane.hosts_are_up(host.name)
    prepared = await plane.prepare()
    await host.stop()
    await plane.host_is(host.name, Health.DOWN)
    with pytest.raises(Unavailable, match="host-1") as awaited:
        await door(plane, 0).Claim(request())
    assert awaited.value.reason == "HOSTS_AWAITED"
    with pytest.raises(ResourceExhausted, match="0 of 1 hosts can take it"):  # back or not
        await door(plane, 1).Claim(request(vcpus=1000))
    accepted = await prepared.create()
    await host.start(plane.register_host)
    run = await plane.ended(accepted.operation_id)
    assert run.status is SagaStatus.COMPLETED, run.error


@hosts_fall_silent
async def test_who_is_silent_for_long_is_not_waited_for(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claiming, "AWAITED_S", 0.0)
    host = await plane.add_host(FakeHost("host-1", plane.cell))
    await plane.hosts_are_up(host.name)
    await host.stop()
    await plane.host_is(host.name, Health.DOWN)
    with pytest.raises(ResourceExhausted, match="compute_up: 1 host removed"):
        await door(plane, 0).Claim(request())


async def test_liveness_lists_agents_and_services(plane: ControlPlane, hosts: list[FakeHost]) -> None:
    expected = {("compute-agent", "host-1"), ("net-agent", "host-3"), ("placement", "placement-1")}
    up: set[tuple[str, str]] = set()
    async with asyncio.timeout(PATIENCE_S):
        while not expected <= up:  # each is heard within its interval
            entries = (await door(plane, 1).GetLiveness(api.GetLivenessRequest())).entries
            up = {(entry.service, entry.instance) for entry in entries if entry.up}
            await asyncio.sleep(0.05)


@hosts_fall_silent
async def test_another_replica_goes_on_detecting(plane: ControlPlane, hosts: list[FakeHost]) -> None:
    log, before = plane.repository.log, (await plane.repository.log.head()).position
    await plane.placements[0].close()
    await hosts[0].stop()
    await plane.host_is(hosts[0].name, Health.DOWN)
    downs = [event.aggregate_id for event in await log.read(after=before) if event.type.endswith(".HostDown")]
    assert downs == [host_aggregate_id(hosts[0].name)], "and of nobody else"
    await plane.host_is(hosts[1].name, Health.UP)
