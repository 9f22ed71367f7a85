"""How often a create asks the log: what a host says, and that the step has succeeded by it, are one append."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from core.saga.state import SagaStatus
from core.testing.servers import Cell
from tests.harness.control_plane import control_plane
from tests.harness.fake_host import FakeHost
from tests.harness.invariants import check_invariants


async def test_a_create_is_five_appends(cell: Cell, tmp_path: Path) -> None:
    async with control_plane(cell, tmp_path, conductors=1) as plane:
        await plane.add_host(FakeHost("host-1", plane.cell))
        await plane.hosts_are_up("host-1")
        prepared = await plane.prepare()
        before = (await plane.repository.log.head()).position
        run = await plane.ended((await prepared.create()).operation_id)
        assert run.status is SagaStatus.COMPLETED
        events = [
            event
            for event in await plane.repository.log.read(after=before, limit=1000)
            if event.aggregate_type in ("instance", "port", "claim", "saga")
        ]
        # The events of an append have one time.
        appends = [
            {event.type.rpartition(".")[2] for event in together}
            for _, together in groupby(events, lambda event: event.recorded_at)
        ]
        accepted, claimed, binding, spawning, over = appends
        assert ("InstanceCreated" in accepted, claimed) == (True, {"ClaimMade"})
        between = {"StepSucceeded", "StepStarted"}
        assert binding == {"InstanceHostAssigned", *between, "PortBindingDesired"}
        assert spawning == {"PortBindingObserved", *between, "InstanceDomainDesired"}
        assert {"InstanceDomainObserved", "InstanceActivated", "SagaCompleted"} < over
        await check_invariants(plane)
