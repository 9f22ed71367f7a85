from __future__ import annotations

from pathlib import Path

from net_agent.drivers.simulated import SimulatedDriver
from tests.unit.net_agent.samples import make_port


async def test_a_boot_leaves_nothing_plugged(tmp_path: Path) -> None:
    port = make_port(11)
    await SimulatedDriver(tmp_path, boot_id="boot-1").plug(port)
    assert await SimulatedDriver(tmp_path, boot_id="boot-1").active_ports() == [port]
    assert await SimulatedDriver(tmp_path, boot_id="boot-2").known_ports() == frozenset()
    assert await SimulatedDriver(tmp_path, boot_id="boot-1").known_ports() == frozenset()
