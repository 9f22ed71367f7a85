"""A rack cut off, as an operator sees it by the `cirra` command: declared, held, approved, heard again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.chaos.cloud import ChaosCloud
from tests.chaos.command import Cirra

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

DOWN_S, UP_S = 120.0, 120.0


async def _until(cirra: Cirra, host: str, timeout_s: float, **shown: str | None) -> None:
    """Until the host is shown so."""
    async with asyncio.timeout(timeout_s):
        while True:
            found = await cirra.json("host", "show", host)
            if all(found.get(name) == value for name, value in shown.items()):
                return
            await asyncio.sleep(0.2)


async def _down(cirra: Cirra) -> set[tuple[str, str]]:
    """Service and instance of those that are not heard."""
    return {(each["service"], each["instance"]) for each in await cirra.json("service", "list") if not each.get("up")}


async def test_a_rack_is_down_and_waits_for_a_person(cloud: ChaosCloud, tmp_path: Path) -> None:
    cirra = Cirra(cloud, tmp_path)
    *rack, other = cloud.hosts
    agents = [agent for host in rack for agent in (host.compute, host.net)]
    for agent in agents:
        agent.keep_down()
    await asyncio.gather(*(agent.kill() for agent in agents))
    for host in rack:
        await _until(cirra, host.name, DOWN_S, state="DOWN", evacuation="HELD")
    assert (await cirra.run("host", "list")).stdout.count("HELD") == len(rack)
    lost = {(agent, host.name) for host in rack for agent in ("compute-agent", "net-agent")}
    async with asyncio.timeout(UP_S):
        while await _down(cirra) != lost:  # noqa: ASYNC110 - the command is asked; others may be late on a busy machine
            await asyncio.sleep(0.2)

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
