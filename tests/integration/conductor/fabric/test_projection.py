"""The fabric's projection on a real log: rows as a fold in memory has them, and each change told to its host once."""

from __future__ import annotations

import random

import pytest

from conductor.fabric import rows
from tests.harness.fabric_history import ACTIVE, INACTIVE, Script, uid
from tests.integration.bus.journal import append as append_others
from tests.integration.conductor.fabric.stage import Stage, telling, three_hosts
from tests.integration.projection.conftest import running


def anything(script: Script, rng: random.Random, steps: int) -> None:
    """Ports come, move and go; hosts and networks change."""
    for step in range(steps):
        port, host = f"p{rng.randrange(12)}", rng.choice("abc")
        network = "n" if int(port[1:]) % 3 else "flat"
        match rng.randrange(6):
            case 0 | 1:
                script.bind(port, host, network, rng.choice([ACTIVE, INACTIVE]))
            case 2:
                script.unbind(port, host)
            case 3:
                script.no_port(port)
            case 4:
                script.tunnel(host, f"192.0.2.{rng.randrange(3)}")
            case 5:
                script.subnet(f"s{step}", network)


@pytest.mark.parametrize("batch", [1, 500])
async def test_rows_are_those_of_a_fold_in_memory_however_events_are_gathered(stage: Stage, batch: int) -> None:
    script, rng = three_hosts(), random.Random(batch)
    projector = stage.projector(batch=batch)
    async with running(projector):
        for _ in range(4):
            anything(script, rng, 60)
            assert await projector.wait_for(await stage.play(script), timeout=60)
        live = await stage.rows()
        assert live == stage.memory.rows and live
        await projector.rebuild()
        assert await stage.rows() == live, "from zero, too"


async def test_another_replica_goes_on_with_what_is_stored(stage: Stage) -> None:
    script, rng = three_hosts(), random.Random(1)
    for holder in ("p1", "p2", "p3"):
        projector = stage.projector(holder=holder)
        async with running(projector):
            anything(script, rng, 40)
            assert await projector.wait_for(await stage.play(script), timeout=60)
    assert await stage.rows() == stage.memory.rows


async def test_each_change_is_told_to_the_hosts_that_it_concerns(stage: Stage) -> None:
    script = three_hosts()
    await stage.play(script)
    async with telling(stage) as projector:
        script.bind("p", "a", "n")
        script.bind("q", "b", "n")
        await projector.wait_for(await stage.play(script), timeout=60)
        # Two networks, two peers.
        await stage.until_sent(4)
        told = await stage.commands()
        assert told.keys() == stage.memory.rows.keys()
        for key, desired in told.items():
            assert desired.generation == stage.memory.rows[key].generation and desired.epoch == 1
            assert (desired.agent, desired.absent) == ("net", False)
        assert told["a", "peer", uid("q")].peer.tunnel_address == "192.0.2.2"
        script.unbind("q", "b")
        await projector.wait_for(await stage.play(script), timeout=60)
        await stage.until_sent(7)
        gone = {key for key, desired in (await stage.commands()).items() if desired.absent}
        assert gone == {("b", "network", uid("n")), ("b", "peer", uid("p")), ("a", "peer", uid("q"))}
        assert not any(host == "c" for host, _, _ in await stage.commands())


async def test_what_happened_before_is_not_told_again(stage: Stage) -> None:
    """Neither by a replica that takes over, nor by a rebuild: hosts find it by their next difference."""
    script = three_hosts()
    script.bind("p", "a", "n")
    await stage.play(script)
    async with telling(stage) as projector:
        await projector.rebuild()
        script.bind("q", "b", "n")
        await projector.wait_for(await stage.play(script), timeout=60)
        await stage.until_sent(3)
        assert ("a", "network", uid("n")) not in await stage.commands()
        assert await stage.sent() == 3


async def test_a_host_that_is_down_or_may_not_act_is_not_told(stage: Stage) -> None:
    script = three_hosts()
    script.bind("p", "a", "n")
    script.bind("q", "b", "n")
    await stage.play(script)
    async with telling(stage) as projector:
        script.down("b")
        script.bind("r", "c", "n")
        await projector.wait_for(await stage.play(script), timeout=60)
        await stage.until_sent(4)
        assert {host for host, _, _ in await stage.commands()} == {"a", "c"}
        script.up("b")
        script.tunnel("a", "192.0.2.77")
        await projector.wait_for(await stage.play(script), timeout=60)
        await stage.until_sent(6)
        assert ("b", "peer", uid("p")) in await stage.commands()


async def test_after_a_restore_a_host_is_told_once_what_differs_there_is_accepted(stage: Stage) -> None:
    script = three_hosts()
    script.bind("p", "a", "n")
    script.bind("q", "b", "n")
    await stage.play(script)
    async with telling(stage) as projector:
        await stage.log.raise_epoch("restored", expected=1, above=0, actor="test")
        script.accepted("a", 2)
        assert await projector.wait_for(await stage.play(script), timeout=60)
        script.tunnel("a", "192.0.2.70")
        script.tunnel("b", "192.0.2.71")
        assert await projector.wait_for(await stage.play(script), timeout=60)
        await stage.until_told(("a", "peer", uid("q")))
        told = await stage.commands()
        assert told["a", "peer", uid("q")].epoch == 2
        assert not any(host == "b" for host, _, _ in told)


async def test_differences_tell_what_is_gone_and_answers_of_all_leave_it_out(stage: Stage) -> None:
    script = three_hosts()
    script.bind("p", "a", "n")
    script.bind("q", "b", "n")
    projector = stage.projector()
    async with running(projector):
        before = await stage.play(script)
        script.unbind("q", "b")
        await projector.wait_for(await stage.play(script), timeout=60)
        changed = await stage.state.of_host("a", before)
        assert [(it.kind, it.object_id, it.absent) for it in changed] == [("peer", uid("q"), True)]
        whole = await stage.state.of_host("a", 0)
        assert [(it.kind, it.object_id, it.absent) for it in whole] == [("network", uid("n"), False)]
        assert await stage.state.of_host("b", 0) == []


@pytest.mark.breaks("READ_MODEL")  # the checker rebuilds with eras of their usual length
async def test_what_is_gone_for_long_is_forgotten_the_same_way_live_and_from_zero(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "ERA", 50)
    script = three_hosts()
    script.bind("p", "a", "n")
    script.bind("q", "b", "n")
    script.unbind("q", "b")
    projector = stage.projector()
    async with running(projector):
        gone = await stage.play(script)
        assert await projector.wait_for(gone, timeout=60)
        assert {key for key, row in (await stage.rows()).items() if row.spec is None}
        await append_others(stage.log, 150)
        script.tunnel("a", "192.0.2.50")
        head = await stage.log.head()
        assert await projector.wait_for(await stage.play(script), timeout=60)
        assert rows.kept_after(head.position) > gone
        live = await stage.rows()
        assert live == {("a", "network", uid("n")): stage.memory.rows["a", "network", uid("n")]}
        await projector.rebuild()
        assert await stage.rows() == live
