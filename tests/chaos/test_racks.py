"""A rack cut off, as an operator sees it by the `cirra` command: declared, held, approved, heard again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.chaos.cloud import LATE_S, ChaosCloud
from tests.chaos.command import Cirra
from tests.harness.promptness import in_rounds, in_time, within

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

DOWN_S, UP_S = 60.0, 60.0
PATIENCE_S = 120.0


async def _until(cirra: Cirra, host: str, timeout_s: float, **shown: str | None) -> None:
    """Until the host is shown so."""
    async with within(timeout_s, f"{host} is shown as {shown}"):
        while True:
            found = await cirra.json("host", "show", host)
            if all(found.get(name) == value for name, value in shown.items()):
                return
            await asyncio.sleep(0.2)


async def _down(cirra: Cirra) -> set[tuple[str, str]]:
    """Service and instance of those that are not heard."""
    return {(each["service"], each["instance"]) for each in await cirra.json("service", "list") if not each.get("up")}


async def test_a_rack_is_down_and_waits_for_a_person(cloud: ChaosCloud, tmp_path: Path) -> None:
    async def play() -> None:
        for host in cloud.hosts:
            host.revive()
            await _until(cirra, host.name, PATIENCE_S, state="UP", evacuation=None)
        await _lose_a_rack(cloud, cirra)

    cirra = Cirra(cloud, tmp_path)
    await in_rounds(play, late_s=LATE_S, pids=cloud.pids)


async def _lose_a_rack(cloud: ChaosCloud, cirra: Cirra) -> None:
    *rack, other = cloud.hosts
    agents = [agent for host in rack for agent in (host.compute, host.net)]
    for agent in agents:
        agent.keep_down()
    await asyncio.gather(*(agent.kill() for agent in agents))
    for host in rack:
        await _until(cirra, host.name, DOWN_S, state="DOWN", evacuation="HELD")
    assert (await cirra.run("host", "list")).stdout.count("HELD") == len(rack)
    lost = {(agent, host.name) for host in rack for agent in ("compute-agent", "net-agent")}
    down = await _down(cirra)
    assert down >= lost
    in_time(down == lost, f"of all others is heard: {down - lost}")

    refused = await cirra.run("host", "approve-evacuation", other.name, "--reason", "seen")
    assert refused.code != 0 and "EVACUATION_NOT_HELD" in refused.stderr
    approved = await cirra.json("host", "approve-evacuation", rack[0].name, "--reason", "its power supply burnt")
    assert (approved["evacuation"], approved["evacuation_reason"]) == (
        "APPROVED",
        "its power supply burnt",
    )
    assert (await cirra.json("host", "show", rack[1].name))["evacuation"] == "HELD"

    for agent in agents:
        agent.let_up()
    for host in rack:
        await _until(cirra, host.name, UP_S, state="UP", evacuation=None)
    assert "HELD" not in (await cirra.run("host", "list")).stdout
