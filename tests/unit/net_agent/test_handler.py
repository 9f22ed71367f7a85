from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cirra.agent.v1.desired_pb2 import DesiredObject, PortObserved
from core.agent.handler import AgentFailure
from core.agent.state_folder import StateFolder
from net_agent.drivers.base import NetworkDriver, NetworkFault, PortState
from net_agent.drivers.simulated import Behaviour, Operation, SimulatedDriver
from net_agent.handlers.port import PortHandler
from net_agent.model import Port, port_to_spec
from tests.unit.net_agent.samples import make_port

PORT = make_port(11)


def handler_of(driver: NetworkDriver, folder: Path) -> PortHandler:
    """In a state folder that is the right one."""
    (folder / "host").mkdir()
    state = StateFolder(folder / "state", folder / "host")
    state.initialise()
    return PortHandler(driver, state)


def wish(absent: bool = False) -> DesiredObject:
    return DesiredObject(kind="port", object_id=PORT.port_id, generation=1, absent=absent, port=port_to_spec(PORT))


async def test_wired_is_said_after_it_was_seen(tmp_path: Path) -> None:
    driver = SimulatedDriver(tmp_path)
    handler = handler_of(driver, tmp_path)
    assert await handler.ensure(wish()) == PortObserved(wired=True)
    assert driver.calls == {"plug": 1}
    assert await handler.known_objects() == {PORT.port_id}


class HalfWired(SimulatedDriver):
    """Says that all went well, and shows that it didn't."""

    async def plug(self, port: Port) -> PortState:
        return replace(await super().plug(port), lacking=("DHCP does not answer",))


async def test_what_is_not_seen_is_not_said(tmp_path: Path) -> None:
    with pytest.raises(AgentFailure) as failure:
        await handler_of(HalfWired(tmp_path), tmp_path).ensure(wish())
    assert failure.value.reason == "PORT_NOT_WIRED" and "DHCP does not answer" in failure.value.message


async def test_absent_is_said_after_it_was_seen_and_needs_no_spec(tmp_path: Path) -> None:
    driver = SimulatedDriver(tmp_path)
    handler = handler_of(driver, tmp_path)
    await handler.ensure(wish())
    bare = DesiredObject(kind="port", object_id=PORT.port_id, generation=2, absent=True)
    assert await handler.remove(bare) == PortObserved(absent=True)
    assert await handler.remove(bare) == PortObserved(absent=True)
    assert await handler.known_objects() == set()


class Stubborn(SimulatedDriver):
    async def unplug(self, port_id: str) -> None:
        """It stays."""


async def test_what_is_still_there_is_said(tmp_path: Path) -> None:
    handler = handler_of(Stubborn(tmp_path), tmp_path)
    await handler.ensure(wish())
    with pytest.raises(AgentFailure) as failure:
        await handler.remove(wish(absent=True))
    assert failure.value.reason == "PORT_NOT_REMOVED" and failure.value.retryable


@pytest.mark.parametrize("operation", ["plug", "unplug", "observe"])
async def test_a_fault_is_an_answer(operation: Operation, tmp_path: Path) -> None:
    fault = NetworkFault("no", reason="BROKEN", remedy="mend it", reschedule=True)
    driver = SimulatedDriver(tmp_path, Behaviour(fault=lambda doing, port_id: fault if doing == operation else None))
    handler = handler_of(driver, tmp_path)
    with pytest.raises(AgentFailure) as failure:
        match operation:
            case "plug":
                await handler.ensure(wish())
            case "unplug":
                await handler.remove(wish())
            case _:
                await handler.look(PORT.port_id)
    assert (failure.value.reason, failure.value.remedy, failure.value.reschedule) == ("BROKEN", "mend it", True)


async def test_a_bad_spec_is_an_answer_and_touches_nothing(tmp_path: Path) -> None:
    driver = SimulatedDriver(tmp_path)
    handler = handler_of(driver, tmp_path)
    bad = wish()
    bad.port.device = "eth0"
    with pytest.raises(AgentFailure, match=r"port\.device") as failure:
        await handler.ensure(bad)
    assert failure.value.reason == "PORT_SPEC_INVALID" and not failure.value.retryable
    with pytest.raises(AgentFailure) as failure:
        await handler.ensure(DesiredObject(kind="port", object_id=PORT.port_id))
    assert failure.value.reason == "PORT_SPEC_MISSING"
    assert not driver.calls


async def test_without_its_state_folder_nothing_is_wired_nor_taken_for_gone(tmp_path: Path) -> None:
    driver = SimulatedDriver(tmp_path)
    handler = handler_of(driver, tmp_path)
    await handler.ensure(wish())
    driver.calls.clear()
    (tmp_path / "state").rename(tmp_path / "away")
    (tmp_path / "state").mkdir()
    for attempt in (handler.ensure(wish()), handler.remove(wish(absent=True))):
        with pytest.raises(AgentFailure) as failure:
            await attempt
        assert failure.value.reason == "STATE_FOLDER_MISSING"
    assert not driver.calls
