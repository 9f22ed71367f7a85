"""The checker of invariants itself: each invariant is broken on purpose, and named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import pytest
import pytest_asyncio

from cirra.agent.v1.desired_pb2 import DesiredObject
from cirra.operations.v1.events_pb2 import SagaCompleted, SagaStarted
from cirra.placement.v1.events_pb2 import ClaimMade
from cirra.placement.v1.scheduling_pb2 import Resources
from conductor.compute.instance import Instance
from conductor.network.port import Port
from core.ids import claim_aggregate_id, uuid7
from core.saga import SagaRun
from core.testing.invariants import CellUnderCheck, Invariant, Violation, lasting_violations, violations
from core.testing.servers import Cell
from placement.claims.claim import Claim
from tests.harness.control_plane import PROJECT, REPLICAS, ControlPlane, control_plane
from tests.harness.fake_host import FakeHost
from tests.harness.invariants import READ_MODELS, under_check

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True, slots=True)
class Still:
    """A cell with one guest, whose services have stopped: nothing is mended behind the tests' backs."""

    plane: ControlPlane
    checked: CellUnderCheck
    instance_id: UUID

    @property
    def log_schema(self) -> str:
        return f"{self.plane.cell.name}_log"

    async def execute(self, statement: str) -> None:
        """SQL, with {cell} for the schemas' prefix."""
        await self.plane.repository.log.pool.execute(statement.format(cell=self.plane.cell.name))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def still(module_cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Still]:
    async with control_plane(module_cell, tmp_path_factory.mktemp("plane")) as plane:
        for _ in range(REPLICAS):
            await plane.start_gateway()
            await plane.start_metadata()
        await plane.add_host(FakeHost("host-1", module_cell))
        await plane.hosts_are_up("host-1")
        accepted = await (await plane.prepare()).create(user_data=b"#!")
        await plane.ended(accepted.operation_id)
        async with under_check(plane) as checked:
            assert len(checked.read_models) == len(READ_MODELS)
            assert await lasting_violations(checked) == []
            await plane.stop_services()
            assert await violations(checked) == []
            yield Still(plane, checked, UUID(accepted.uid))


def _named(found: list[Violation]) -> set[Invariant]:
    return {violation.invariant for violation in found}


BROKEN_ROWS = [
    pytest.param(
        "UPDATE {cell}_log.head SET position = position + 1",
        "UPDATE {cell}_log.head SET position = position - 1",
        {Invariant.LOG},
        id="position",
    ),
    pytest.param(
        "UPDATE {cell}_log.events SET version = version + 1 WHERE aggregate_type = 'instance' AND version = "
        "(SELECT max(version) FROM {cell}_log.events WHERE aggregate_type = 'instance')",
        "UPDATE {cell}_log.events SET version = version - 1 WHERE aggregate_type = 'instance' AND version = "
        "(SELECT max(version) FROM {cell}_log.events WHERE aggregate_type = 'instance')",
        {Invariant.LOG},
        id="version",
    ),
    pytest.param(
        "UPDATE {cell}_log.events SET recorded_at = recorded_at + interval '1 h' WHERE position = 3",
        "UPDATE {cell}_log.events SET recorded_at = recorded_at - interval '1 h' WHERE position = 3",
        {Invariant.LOG},
        id="time",
    ),
    pytest.param(
        "UPDATE {cell}_log.counters SET used = used + 1 WHERE scope = 'image-users'",
        "UPDATE {cell}_log.counters SET used = used - 1 WHERE scope = 'image-users'",
        {Invariant.CONSTRAINTS},
        id="counter",
    ),
    pytest.param(
        "UPDATE {cell}_log.counters SET used = used + 1 WHERE scope = 'quota/vcpus'",
        "UPDATE {cell}_log.counters SET used = used - 1 WHERE scope = 'quota/vcpus'",
        {Invariant.CONSTRAINTS, Invariant.USAGE},
        id="quota",
    ),
    *(
        pytest.param(
            f"INSERT INTO {{cell}}_log.counters (scope, key, used) VALUES ('quota/{resource}', 'nobody', 1)",
            f"DELETE FROM {{cell}}_log.counters WHERE scope = 'quota/{resource}' AND key = 'nobody'",
            {Invariant.CONSTRAINTS, Invariant.USAGE},
            id=f"quota of {resource}",
        )
        for resource in ("networks", "routers", "floating_ips", "key_pairs", "volumes")
    ),
    pytest.param(
        "INSERT INTO {cell}_log.unique_keys VALUES ('mac/nowhere', '02:00:00:00:00:01', 'nobody')",
        "DELETE FROM {cell}_log.unique_keys WHERE scope = 'mac/nowhere'",
        {Invariant.CONSTRAINTS, Invariant.PORT},
        id="address",
    ),
    pytest.param(
        "UPDATE {cell}_log.events SET event_id = gen_random_uuid() WHERE position = 2",
        "",
        {Invariant.STREAM},
        id="event that is not the stream's",
    ),
    *(
        pytest.param(
            f"UPDATE {{cell}}_{part}.{table} SET {column} = {changed}",
            f"UPDATE {{cell}}_{part}.{table} SET {column} = {mended}",
            {Invariant.READ_MODEL},
            id=f"{part} {table}",
        )
        for part, table, column, changed, mended in (
            ("conductor", "desired", "generation", "generation + 1", "generation - 1"),
            ("conductor", "hosts", "host", "host || 'x'", "left(host, -1)"),
            ("conductor", "fabric_objects", "generation", "generation + 1", "generation - 1"),
            ("metadata", "ports", "host", "host || 'x'", "left(host, -1)"),
            ("gateway", "resources", "host", "host || 'x'", "left(host, -1)"),
        )
    ),
    pytest.param(
        "INSERT INTO {cell}_conductor.unfinished VALUES ('01a1ff41-f932-75c2-98e5-9c95acdd5962', 'conductor-9.dead')",
        "DELETE FROM {cell}_conductor.unfinished WHERE runner = 'conductor-9.dead'",
        {Invariant.READ_MODEL},
        id="conductor unfinished",
    ),
    pytest.param(
        "UPDATE {cell}_gateway.projections SET position = position - 1",
        "UPDATE {cell}_gateway.projections SET position = position + 1",
        {Invariant.READ_MODEL},
        id="read model behind",
    ),
    pytest.param(
        "UPDATE {cell}_metadata.projections SET halted_at = 7, error = 'poison'",
        "UPDATE {cell}_metadata.projections SET halted_at = NULL, error = ''",
        {Invariant.READ_MODEL},
        id="read model halted",
    ),
]


@pytest.mark.parametrize(("breaking", "mending", "broken"), BROKEN_ROWS)
async def test_a_broken_row_is_named(still: Still, breaking: str, mending: str, broken: set[Invariant]) -> None:
    event_id = await still.plane.repository.log.read(after=1, limit=1)
    await still.execute(breaking)
    found = await violations(still.checked)
    await still.execute(
        mending or f"UPDATE {{cell}}_log.events SET event_id = '{event_id[0].event_id}' WHERE position = 2"
    )
    assert _named(found) == broken, found
    assert all(violation.subject and violation.text for violation in found)
    assert await violations(still.checked) == []


async def _named_apart_from_readers(still: Still) -> set[Invariant]:
    """Relay and projectors have stopped: what is appended now they lack, which is not the point here."""
    return _named(await violations(still.checked)) - {Invariant.STREAM, Invariant.READ_MODEL}


async def test_what_is_on_a_host_and_should_not_be_is_named_and_the_reverse(still: Still) -> None:
    [host] = still.plane.hosts
    for contents in (host.domains, host.ports):
        stranger = str(uuid7())
        contents[stranger] = DesiredObject()
        [found] = await violations(still.checked)
        assert (found.invariant, stranger in found.subject) == (Invariant.HOST, True)
        del contents[stranger]
    lost = host.domains.pop(str(still.instance_id))
    assert _named(await violations(still.checked)) == {Invariant.HOST}
    host.domains[str(still.instance_id)] = lost
    assert await violations(still.checked) == []


async def test_an_image_without_its_blob_is_named(still: Still, tmp_path: Path) -> None:
    checked = replace(still.checked, blobs=tmp_path)
    assert _named(await violations(checked)) == {Invariant.FILE}
    blob = tmp_path / "blobs" / ("ab" * 32)
    blob.parent.mkdir()
    blob.write_bytes(b"xx")
    assert _named(await violations(checked)) == {Invariant.FILE}, "too long"
    blob.write_bytes(b"x")
    assert await violations(checked) == []


async def test_a_stream_that_lags_or_is_missing_is_named(still: Still) -> None:
    run = SagaRun.new(uuid7())
    run.record(SagaStarted(saga="instance-create", runner="conductor-9.dead"))
    await still.plane.repository.save(run)
    assert Invariant.STREAM in _named(await violations(still.checked))
    assert await violations(still.checked, resting=True) == [], "who has stopped may be behind"
    run.record(SagaCompleted())
    await still.plane.repository.save(run)


async def test_a_saga_that_nobody_runs_is_named(still: Still) -> None:
    run = SagaRun.new(uuid7())
    run.record(SagaStarted(saga="instance-create", runner="conductor-9.dead"))
    await still.plane.repository.save(run)
    assert await _named_apart_from_readers(still) == {Invariant.SAGA}
    run.record(SagaCompleted())
    await still.plane.repository.save(run)
    assert await _named_apart_from_readers(still) == set()


async def test_a_claim_that_no_instance_holds_is_named(still: Still) -> None:
    claim = Claim.new(claim_aggregate_id(uuid7()))
    claim.record(ClaimMade(host="host-1", attempt=1, resources=Resources(vcpus=1)))
    await still.plane.repository.save(claim)
    assert await _named_apart_from_readers(still) == {Invariant.CLAIM}
    claim.release(1, pending_cleanup=True)
    await still.plane.repository.save(claim)
    assert await _named_apart_from_readers(still) == {Invariant.CLAIM}
    claim.confirm_cleanup("host-1")
    await still.plane.repository.save(claim)
    assert await _named_apart_from_readers(still) == set()


async def test_an_instance_without_a_claim_is_named(still: Still) -> None:
    claim = await still.plane.repository.load(Claim, claim_aggregate_id(still.instance_id))
    held = claim.held
    assert held is not None
    claim.release(held.attempt, pending_cleanup=False)
    await still.plane.repository.save(claim)
    assert await _named_apart_from_readers(still) == {Invariant.CLAIM}
    claim.record(held)
    await still.plane.repository.save(claim)
    assert await _named_apart_from_readers(still) == set()


async def test_a_port_whose_instance_is_gone_is_named(still: Still) -> None:
    port = Port.create(
        uuid7(),
        project_id=PROJECT,
        network_id=str(uuid7()),
        mac_address="02:00:00:00:00:02",
        fixed_ips=[],
        device_id=str(uuid7()),
        owned_by_device=True,
    )
    await still.plane.repository.save(port)
    assert await _named_apart_from_readers(still) == {Invariant.PORT}
    port.release_device()
    await still.plane.repository.save(port)
    assert await _named_apart_from_readers(still) == set()


async def test_what_a_deleted_instance_leaves_is_named(still: Still) -> None:
    instance = await still.plane.repository.load(Instance, still.instance_id)
    instance.delete("")
    await still.plane.repository.save(instance)
    found = await violations(still.checked)
    left = (Invariant.CLAIM, Invariant.PORT, Invariant.SECRET)
    texts = [str(violation) for violation in found if violation.invariant in left]
    assert len(texts) == 3
    assert any("is held, and the instance is gone" in text for text in texts)
    assert any("lives on, and its instance" in text for text in texts)
    assert any("can still be opened" in text for text in texts)
    at_rest = await violations(still.checked, resting=True)
    assert Invariant.SECRET not in _named(at_rest), "who has stopped may have had it still to do"
    await still.plane.repository.destroy_secrets(instance.id)
    assert Invariant.SECRET not in _named(await violations(still.checked))
