"""The outside of a machine that is the only host. It needs root: namespaces, a veth pair."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deployment.layout import Layout
from deployment.outside import Outside
from deployment.testbed import plan
from tests.harness.root import require_root

pytestmark = pytest.mark.root


@pytest.fixture
async def outside(tmp_path: Path) -> AsyncIterator[Outside]:
    require_root("network namespaces")
    made = Outside(Layout(tmp_path))
    yield made
    await made.remove()
    assert not made.exists


async def test_it_is_the_other_end_of_an_uplink_and_a_second_time_the_same(outside: Outside) -> None:
    told = await outside.ensure({"LANG": "C"})
    label, _, uplink = told["CIRRA_PHYSICAL_NETWORKS"].partition(":")
    assert (label, told["LANG"]) == (plan.PHYSICAL_NETWORK, "C")
    links = await output("ip", "-brief", "link", "show", uplink), await output(*outside.enter("ip", "-brief", "link"))
    assert "LOWER_UP" in links[0] and "eth0" in links[1]
    assert str(plan.OUTSIDE[0]) in await output(*outside.enter("ip", "-brief", "address"))
    assert await outside.ensure({"LANG": "C"}) == told
    assert await output(*outside.enter("ip", "-brief", "link")) == links[1], "it was left alone"
    await outside.remove()
    assert uplink not in await output("ip", "-brief", "link")


async def test_a_machine_with_uplinks_has_none(outside: Outside) -> None:
    await outside.ensure({})
    named = {"CIRRA_PHYSICAL_NETWORKS": "physnet1:eth7"}
    assert await outside.ensure(named) == named
    assert not outside.exists


async def output(*command: str) -> str:
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout
