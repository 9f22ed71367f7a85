"""Clocks an hour off, this way and that: liveness, deadlines, tokens and AS OF don't notice. With real processes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from api_gateway.auth.tokens import Tokens, load_key
from cirra.compute.v1.compute_pb2 import INSTANCE_STATUS_ACTIVE
from cirra.identity.v1.identity_pb2 import ROLE_ADMIN, Principal
from cirra.placement.v1.events_pb2 import DetectorTookOver
from cirra.placement.v1.placement_pb2 import HOST_STATE_DOWN, HOST_STATE_UP, HostState
from cirra_sdk import AsyncClient
from cirra_sdk.config import Profile
from cirra_sdk.errors import CirraApiError
from core.clock import MAX_ROUND_TRIP_S
from core.ids import uuid7
from deployment import clouds, secrets
from placement.liveness.term import DETECTOR_ID
from tests.chaos.cloud import CELL, HOSTS, LATE_S, ChaosCloud, chaos_cloud
from tests.chaos.command import Cirra
from tests.chaos.history import End, History, Moment
from tests.harness.log_watch import LogWatch
from tests.harness.promptness import in_rounds, in_time, within

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

MIXED = {
    "conductor-1": "+1h",
    "conductor-2": "-1h",
    "placement-1": "-1h",
    "placement-2": "+1h",
    "api-gateway-1": "+1h",
    "api-gateway-2": "-1h",
    "metadata-1": "-1h",
    "host-1": "+1h",
    "host-2": "-1h",
}
ALONE = [
    {name: offset} for name in ("conductor-1", "placement-1", "api-gateway-1", "host-1") for offset in ("+1h", "-1h")
]
LIFETIME = timedelta(hours=1)
# The clock of this machine is right, and Postgres's: what a replica takes it to be is off by half of the longest round
# trip that it believes, and the times of tokens are whole seconds (RFC 7519).
CLOSE = timedelta(seconds=MAX_ROUND_TRIP_S / 2 + 1)
DOWN_S, UP_S, SAGA_S = 30.0, 30.0, 180.0
PATIENCE_S = 120.0


@asynccontextmanager
async def _cloud(log_watch: LogWatch, clocks: dict[str, str]) -> AsyncIterator[ChaosCloud]:
    with log_watch.folder("cirra-clocks-") as folder:
        async with chaos_cloud(folder, clocks) as running:
            yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def askew(log_watch: LogWatch) -> AsyncIterator[ChaosCloud]:
    """A cloud in which hardly two clocks agree."""
    async with _cloud(log_watch, MIXED) as running:
        yield running


def _at(cloud: ChaosCloud, gateway: int, token: str) -> AsyncClient:
    profile = Profile(cloud.gateways[gateway], str(secrets.authority_file(cloud.layout)), token=token)
    return AsyncClient.of(profile, memory=cloud.memory, retry_for_s=10.0)


async def _refusal(cloud: ChaosCloud, gateway: int, token: str) -> str:
    """The reason that a gateway gives; empty when it accepts."""
    async with _at(cloud, gateway, token) as client:
        try:
            await client.hosts.get(HOSTS[0])
        except CirraApiError as error:
            return error.reason
    return ""


def _skew(cloud: ChaosCloud, name: str) -> timedelta:
    """By how much the clock of a process is wrong: when it was ready, by its log and by the file that it then made."""
    lines = [json.loads(line) for line in cloud.layout.log(name).read_text().splitlines() if line.startswith("{")]
    *_, ready = [line for line in lines if line["message"] == "ready"]
    made_at = cloud.layout.ready_file(name).stat().st_mtime
    return datetime.fromisoformat(ready["timestamp"]) - datetime.fromtimestamp(made_at, UTC)


async def test_the_clocks_are_wrong_indeed(askew: ChaosCloud) -> None:
    for name, offset in MIXED.items():
        processes = [f"{agent}-{name}" for agent in ("compute-agent", "net-agent")] if name in HOSTS else [name]
        for process in processes:
            hour = timedelta(hours=1 if offset == "+1h" else -1)
            assert abs(_skew(askew, process) - hour) < timedelta(minutes=1), process
    assert abs(_skew(askew, "compute-agent-host-3")) < timedelta(minutes=1)


async def test_tokens_of_one_gateway_are_good_and_end_at_the_other(askew: ChaosCloud) -> None:
    admin = clouds.admin(askew.layout)
    for here, there in ((0, 1), (1, 0)):
        asked_at = datetime.now(UTC)
        async with _at(askew, here, "none") as client:
            token = await client.tokens.create(admin.user, admin.password, admin.project)
        issued_at = token.expire_time.ToDatetime(UTC) - LIFETIME
        assert asked_at - CLOSE < issued_at < datetime.now(UTC) + CLOSE
        assert await _refusal(askew, there, token.access_token) == ""
        async with _at(askew, here, token.access_token) as client:
            await client.tokens.revoke(token.access_token)
        for gateway in (here, there):
            assert await _refusal(askew, gateway, token.access_token) == "TOKEN_REVOKED"


@pytest.mark.parametrize(
    ("age", "reason"),
    [(LIFETIME + CLOSE, "TOKEN_EXPIRED"), (LIFETIME - timedelta(minutes=1), ""), (timedelta(), "")],
)
async def test_a_token_ends_in_postgres_time(askew: ChaosCloud, age: timedelta, reason: str) -> None:
    tokens = Tokens(
        load_key(secrets.token_key(askew.layout)), cell=CELL, lifetime=LIFETIME, now=lambda: datetime.now(UTC) - age
    )
    text, _ = tokens.issue(Principal(user_id=str(uuid7()), user_name="a", roles=[ROLE_ADMIN]))
    assert [await _refusal(askew, gateway, text) for gateway in (0, 1)] == [reason, reason]


async def test_instances_are_made_and_read_as_of_the_logs_time(askew: ChaosCloud) -> None:
    await _make_and_look_back(askew)


async def test_sagas_go_on_at_a_conductor_whose_clock_is_two_hours_off(askew: ChaosCloud) -> None:
    """What their steps have left of their deadlines goes by the log's time, and by no clock that is wrong."""
    history = await History.from_now(askew.log)
    creates = asyncio.create_task(askew.customer.create_many(6))
    await history.until(Moment("StepStarted", 8))
    await askew.services["conductor-1"].kill()
    await creates
    runs = await history.until_ended("instance-create", 6, SAGA_S)
    assert {run.end for run in runs} == {End.COMPLETED}
    assert any(run.adoptions for run in runs)
    await askew.customer.delete_many(await askew.instances())
    await history.until_ended("instance-delete", 6, SAGA_S)


async def test_a_host_that_dies_is_down_and_no_other(askew: ChaosCloud, tmp_path: Path) -> None:
    async def play() -> None:
        await _all_well(askew, tmp_path)
        await _lose_a_host(askew)
        await _lose_the_detector(askew, tmp_path)

    await in_rounds(play, late_s=LATE_S, pids=askew.pids)


async def _lose_the_detector(askew: ChaosCloud, tmp_path: Path) -> None:
    # The other replica of the detector, whose clock is two hours off this one's.
    term = await _term(askew)
    await next(each for each in askew.of("placement") if term.replica.startswith(each.name)).kill()
    async with within(DOWN_S, "another one detects"):
        while (await _term(askew)).term == term.term:  # noqa: ASYNC110 — the log is asked
            await asyncio.sleep(0.1)
    before = (await askew.log.head()).position
    await asyncio.sleep(10.0)
    said = [event.type for event in await askew.log.read(after=before) if event.aggregate_type == "host"]
    assert [each for each in said if each.endswith(".HostDown")] == []
    in_time(said == [], f"nothing is said of who beats: {said}")
    services = await _services(askew, tmp_path)
    silent = {(each["service"], each["instance"]) for each in services if not each.get("up")}
    in_time(silent == set(), f"all are heard: {silent}")
    assert max(int(each.get("silence_ms", 0)) for each in services) < 30_000
    assert {each["service"] for each in services} >= {"conductor", "placement", "api-gateway", "compute-agent"}
    assert {each["host"] for each in services if each["service"] == "net-agent"} == set(HOSTS)


@pytest.mark.slow
@pytest.mark.parametrize("clocks", ALONE, ids=lambda clocks: "".join(f"{name}{by}" for name, by in clocks.items()))
async def test_one_clock_alone(log_watch: LogWatch, tmp_path: Path, clocks: dict[str, str]) -> None:
    async with _cloud(log_watch, clocks) as cloud:
        await _make_and_look_back(cloud)

        async def play() -> None:
            await _all_well(cloud, tmp_path)
            await _lose_a_host(cloud)

        await in_rounds(play, late_s=LATE_S, pids=cloud.pids)


async def _make_and_look_back(cloud: ChaosCloud) -> None:
    history = await History.from_now(cloud.log)
    begun_at = await _logs_time(cloud)
    await cloud.customer.create_many(4)
    runs = await history.until_ended("instance-create", 4, SAGA_S)
    assert {run.end for run in runs} == {End.COMPLETED}
    standing = await cloud.instances()
    assert {instance.status for instance in standing} == {INSTANCE_STATUS_ACTIVE}
    for instance in standing:
        assert begun_at < instance.launch_time.ToDatetime(UTC) < await _logs_time(cloud)
    made_at = await _logs_time(cloud)
    await cloud.customer.delete_many(standing)
    await history.until_ended("instance-delete", 4, SAGA_S)
    for client in cloud.customer.clients:
        past = await client.instances.get(standing[0], as_of=made_at)
        assert past.status == INSTANCE_STATUS_ACTIVE
        with pytest.raises(CirraApiError):
            await client.instances.get(standing[0], as_of=begun_at)


async def _lose_a_host(cloud: ChaosCloud) -> None:
    lost, *others = cloud.hosts
    before = (await cloud.log.head()).position
    for agent in (lost.compute, lost.net):
        agent.keep_down()
        await agent.kill()
    await _until(cloud, lost.name, HOST_STATE_DOWN, DOWN_S)
    states = [(await cloud.admin.hosts.get(host.name)).state for host in others]
    in_time(states == [HOST_STATE_UP] * len(others), f"all others are UP: {states}")
    for agent in (lost.compute, lost.net):
        agent.let_up()
    await _until(cloud, lost.name, HOST_STATE_UP, UP_S)
    downs = [event for event in await cloud.log.read(after=before) if event.type.endswith(".HostDown")]
    assert len(downs) == 1, "and no other"


async def _all_well(cloud: ChaosCloud, folder: Path) -> None:
    """Returns when all hosts are UP and all replicas are heard, as at the beginning."""
    for host in cloud.hosts:
        host.revive()
        await _until(cloud, host.name, HOST_STATE_UP, PATIENCE_S)
    async with asyncio.timeout(PATIENCE_S):
        while not all([each.get("up") for each in await _services(cloud, folder)]):  # noqa: ASYNC110 — as above
            await asyncio.sleep(0.1)


async def _logs_time(cloud: ChaosCloud) -> datetime:
    """By the clock that events are recorded by."""
    found: datetime = await cloud.log.pool.fetchval("SELECT clock_timestamp()")
    return found


async def _until(cloud: ChaosCloud, host: str, state: HostState.ValueType, timeout_s: float) -> None:
    async with within(timeout_s, f"{host} is {HostState.Name(state)}"):
        while (await cloud.admin.hosts.get(host)).state != state:  # noqa: ASYNC110 — the gateway is asked
            await asyncio.sleep(0.1)


async def _services(cloud: ChaosCloud, folder: Path) -> list[dict[str, Any]]:
    """As `cirra service list` shows them."""
    listed: list[dict[str, Any]] = await Cirra(cloud, folder).json("service", "list")
    return listed


async def _term(cloud: ChaosCloud) -> DetectorTookOver:
    """Who detects."""
    *_, last = await cloud.log.read_aggregate(DETECTOR_ID)
    return DetectorTookOver.FromString(last.data)
