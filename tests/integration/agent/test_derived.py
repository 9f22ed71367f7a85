"""Derived objects on a host: kept as told, removed when a complete answer lists them no more, told of when wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

from cirra.agent.v1.desired_pb2 import DesiredObject, FaultsObserved
from cirra.agent.v1.fabric_pb2 import PeerSpec
from core.agent.handler import AgentFailure
from tests.integration.agent.world import HOST, World, until

OFTEN = {"difference_interval_s": 0.05, "full_interval_s": 0.2, "faults_after_s": 0.1}
SELDOM = {"difference_interval_s": 600.0, "full_interval_s": 600.0}


def peer(object_id: str, generation: int, *, absent: bool = False, host: str = "h2") -> DesiredObject:
    desired = DesiredObject(
        host=HOST, agent="compute", kind="peer", object_id=object_id, generation=generation, absent=absent
    )
    if not absent:
        desired.peer.CopyFrom(PeerSpec(port_id=object_id, host=host))
    return desired


@dataclass
class Peers:
    """A handler that keeps what it is told. `broken`: what it can't make."""

    kind: str = "peer"
    kept: dict[str, int] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    ensured: list[tuple[str, int]] = field(default_factory=list)

    async def ensure(self, desired: DesiredObject) -> None:
        self.ensured.append((desired.object_id, desired.generation))
        self.kept[desired.object_id] = desired.generation
        if desired.object_id in self.broken:
            raise AgentFailure("no way", reason="NO_WAY", remedy="make one")

    async def remove(self, desired: DesiredObject) -> None:
        self.kept.pop(desired.object_id, None)

    async def known_objects(self) -> set[str]:
        return set(self.kept)


def told(world: World) -> list[FaultsObserved]:
    return [report.faults for report in world.reports_on(HOST) if report.WhichOneof("facts") == "faults"]


async def test_a_command_is_kept_and_nothing_is_reported_of_what_is_right(world: World) -> None:
    peers = Peers()
    await world.start_agent(peers, **OFTEN)
    await world.command(peer("a", 7), verb="EnsurePeer")
    await until(lambda: peers.kept == {"a": 7}, "it is kept")
    world.conductor.position = 5
    rounds = len(world.conductor.asked)
    await until(lambda: len(world.conductor.asked) > rounds + 4, "answers came that don't know of it")
    assert peers.kept == {"a": 7}, "newer than the answers"
    assert peers.ensured == [("a", 7)]
    assert not [report for report in world.reports_on("a")]


async def test_what_a_complete_answer_does_not_list_is_removed(world: World) -> None:
    peers = Peers(kept={"from before": 1})
    world.conductor.position = 10
    world.conductor.want(peer("a", 11))
    await world.start_agent(peers, **OFTEN)
    await until(lambda: peers.kept == {"a": 11}, "what is not wanted went")
    world.conductor.forget(peer("a", 11))
    world.conductor.position = 12
    await until(lambda: peers.kept == {}, "and what is not wanted any more")
    world.conductor.want(peer("a", 13))
    await until(lambda: peers.kept == {"a": 13}, "it may come again")


async def test_a_difference_removes_what_it_lists_and_nothing_else(world: World) -> None:
    peers = Peers()
    world.conductor.position = 10
    world.conductor.want(peer("a", 11))
    world.conductor.want(peer("b", 12))
    await world.start_agent(peers, difference_interval_s=0.05, full_interval_s=600.0)
    await until(lambda: peers.kept == {"a": 11, "b": 12}, "both are there")
    world.conductor.want(peer("a", 13, absent=True))
    await until(lambda: peers.kept == {"b": 12}, "one is gone")
    assert world.conductor.asked.count(0) == 1


async def test_an_older_command_does_not_bring_back_what_went(world: World) -> None:
    peers = Peers()
    await world.start_agent(peers, **SELDOM)
    await world.command(peer("a", 9, absent=True), verb="EnsurePeer")
    await world.command(peer("b", 9), verb="EnsurePeer")
    await until(lambda: peers.kept == {"b": 9}, "the removal is noted")
    await world.command(peer("a", 8), verb="EnsurePeer")
    await world.command(peer("c", 10), verb="EnsurePeer")
    await until(lambda: "c" in peers.kept, "the older command was handled")
    assert "a" not in peers.kept


async def test_faults_are_told_as_one_list_whenever_it_changes(world: World) -> None:
    peers = Peers(broken={"a", "b"})
    await world.start_agent(peers, **OFTEN)
    await until(lambda: told(world), "all is well, it is said")
    assert not told(world)[-1].faults
    for object_id in "abc":
        world.conductor.want(peer(object_id, 2))
    await until(lambda: len(told(world)[-1].faults) == 2, "both faults")
    assert [(it.kind, it.object_id, it.failure.reason) for it in told(world)[-1].faults] == [
        ("peer", "a", "NO_WAY"),
        ("peer", "b", "NO_WAY"),
    ]
    peers.broken.discard("a")
    await until(lambda: [it.object_id for it in told(world)[-1].faults] == ["b"], "the full comparison tries again")
    world.conductor.want(peer("b", 3, absent=True))
    await until(lambda: not told(world)[-1].faults, "what is gone is no fault")


async def test_a_kind_that_the_agent_does_not_know_is_a_fault_and_no_poison(world: World) -> None:
    peers = Peers()
    await world.start_agent(peers, **OFTEN)
    stranger = peer("x", 2)
    stranger.kind = "router"
    world.conductor.want(stranger)
    await until(lambda: told(world) and told(world)[-1].faults, "it is told")
    [fault] = told(world)[-1].faults
    assert (fault.kind, fault.failure.reason) == ("router", "KIND_UNKNOWN")
