from __future__ import annotations

from pathlib import Path

import pytest

from cirra.agent.v1.desired_pb2 import DesiredObject
from core.agent.derived import VERBS
from core.agent.faults import Faults
from core.agent.handler import AgentFailure
from core.agent.state_folder import StateFolder
from net_agent.drivers.base import Faults as DriverFaults
from net_agent.drivers.base import NetworkFault
from net_agent.drivers.simulated import Behaviour, SimulatedDriver
from net_agent.handlers.derived import DerivedHandler
from net_agent.healer import Healer
from net_agent.model import Derived, key_of, to_spec
from net_agent.model.kinds import DERIVED_KINDS
from tests.unit.net_agent.samples import DERIVED, PEER


def state_of(folder: Path) -> StateFolder:
    """One that is the right one."""
    (folder / "host").mkdir()
    state = StateFolder(folder / "state", folder / "host")
    state.initialise()
    return state


def wish(model: Derived) -> DesiredObject:
    kind, object_id = key_of(model)
    desired = DesiredObject(kind=kind, object_id=object_id, generation=1)
    getattr(desired, kind.replace("-", "_")).MergeFrom(to_spec(model))
    return desired


def test_the_conductors_kinds_are_the_agents() -> None:
    assert set(DERIVED_KINDS) == set(VERBS)


@pytest.mark.parametrize("model", DERIVED, ids=lambda model: type(model).__name__)
async def test_what_is_wanted_is_kept_until_it_is_not(model: Derived, tmp_path: Path) -> None:
    driver = SimulatedDriver(tmp_path / "driver")
    kind, object_id = key_of(model)
    handler = DerivedHandler(kind, driver, state_of(tmp_path))
    await handler.ensure(wish(model))
    assert await handler.known_objects() == {object_id}
    gone = DesiredObject(kind=kind, object_id=object_id, generation=2, absent=True)
    for _ in range(2):
        await handler.remove(gone)
    assert await handler.known_objects() == set()


async def test_bad_specs_and_faults_are_failures(tmp_path: Path) -> None:
    fault = NetworkFault("no", reason="BROKEN", remedy="mend it")
    driver = SimulatedDriver(tmp_path / "driver", Behaviour(fault=lambda doing, _: fault if doing == "keep" else None))
    handler = DerivedHandler("peer", driver, state_of(tmp_path))
    with pytest.raises(AgentFailure) as failure:
        await handler.ensure(wish(PEER))
    assert (failure.value.reason, failure.value.remedy) == ("BROKEN", "mend it")
    driver.calls.clear()
    bad = wish(PEER)
    bad.peer.mac_address = "x"
    with pytest.raises(AgentFailure, match=r"peer\.mac_address") as failure:
        await handler.ensure(bad)
    assert failure.value.reason == "DERIVED_SPEC_INVALID"
    with pytest.raises(AgentFailure) as failure:
        await handler.ensure(DesiredObject(kind="peer", object_id=PEER.port_id))
    assert failure.value.reason == "DERIVED_SPEC_MISSING" and not driver.calls


class Ailing(SimulatedDriver):
    """What heals and what doesn't is told by a test."""

    found: DriverFaults

    async def heal(self) -> DriverFaults:
        return self.found


async def test_faults_are_told_until_they_have_healed(tmp_path: Path) -> None:
    driver, faults = Ailing(tmp_path / "driver"), Faults()
    state = state_of(tmp_path)
    healer = Healer(driver, state, faults, interval_s=1.0)
    fault = NetworkFault("no way", reason="TUNNEL_ADDRESS_UNKNOWN", remedy="set it")
    driver.found = {("peer", "p1"): fault, ("port", "p2"): fault}
    await healer.heal()
    [told] = faults.observed().faults
    assert (told.kind, told.object_id, told.failure.reason) == ("peer", "p1", "TUNNEL_ADDRESS_UNKNOWN")
    # What a handler has noted stays its own.
    faults.put("router", "r1", AgentFailure("bad", reason="DERIVED_SPEC_INVALID"))
    driver.found = {}
    await healer.heal()
    assert [it.kind for it in faults.observed().faults] == ["router"]
    # A host whose state folder is gone is not taken for one without faults, nor touched.
    driver.found = {("peer", "p1"): fault}
    await healer.heal()
    (tmp_path / "state").rename(tmp_path / "away")
    driver.found = {}
    await healer.heal()
    assert [it.kind for it in faults.observed().faults] == ["peer", "router"]
