from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.network.hosts import Host, LinuxHost, SimulatedHost


@pytest.fixture
async def linux(tmp_path: Path) -> AsyncIterator[LinuxHost]:
    host = LinuxHost(tmp_path)
    await host.start()
    try:
        yield host
    finally:
        await host.stop()


@pytest.fixture(params=["simulated", pytest.param("linux", marks=pytest.mark.root)])
async def host(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Host]:
    if request.param == "simulated":
        simulated = SimulatedHost(tmp_path)
        yield simulated
        await simulated.driver.close()
        return
    real = LinuxHost(tmp_path)
    await real.start()
    try:
        yield real
    finally:
        await real.stop()
