"""What a host has against what the log says of it."""

from __future__ import annotations

from cirra.agent.v1 import desired_pb2 as agent
from cirra.agent.v1 import host_pb2 as api
from cirra.placement.v1 import differences_pb2 as public
from conductor.hosts.differences import differences, etag_of
from core.agent.specs import spec_digest


def domain(generation: int = 2, *, power: str = "ON", absent: bool = False, vcpus: int = 1) -> agent.DesiredObject:
    spec = agent.DomainSpec(
        instance_id="i", display_name="web", vcpus=vcpus, power=agent.DesiredPower.Value(f"DESIRED_POWER_{power}")
    )
    return agent.DesiredObject(
        host="h",
        agent="compute",
        kind="domain",
        object_id="i",
        generation=generation,
        absent=absent,
        domain=None if absent else spec,
    )


def seen(wish: agent.DesiredObject | None = None, *, generation: int = 2, state: str = "RUNNING") -> api.HostObject:
    return api.HostObject(
        kind="domain",
        object_id="i",
        epoch=1,
        generation=generation,
        present=True,
        spec_digest=spec_digest(wish or domain()),
        domain=agent.DomainObserved(state=agent.DomainState.Value(f"DOMAIN_STATE_{state}"), disk_present=True),
    )


def kinds(desired: list[agent.DesiredObject], contents: list[api.HostObject]) -> list[str]:
    found = differences(desired, contents)
    return [public.DifferenceKind.Name(each.kind).removeprefix("DIFFERENCE_KIND_") for each in found]


def test_what_is_as_it_was_left_does_not_differ() -> None:
    assert kinds([domain()], [seen()]) == []
    assert kinds([domain(power="OFF")], [seen(state="SHUTOFF")]) == []
    assert kinds([domain(absent=True)], []) == []


def test_what_one_of_the_two_does_not_have() -> None:
    assert kinds([domain()], []) == ["MISSING"]
    assert kinds([], [seen()]) == ["UNKNOWN"]
    assert kinds([domain(absent=True)], [seen()]) == ["TO_BE_REMOVED"]


def test_what_was_removed_since_is_missing_and_no_orphan() -> None:
    removed = api.HostObject(kind="domain", object_id="i", epoch=1, generation=3, tombstone=True)
    [missing] = differences([domain()], [removed])
    assert (missing.kind, missing.host) == (public.DIFFERENCE_KIND_MISSING, "removed")
    assert differences([], [removed]) == []


def test_what_both_have_and_is_not_the_same() -> None:
    assert kinds([domain()], [seen(state="SHUTOFF")]) == ["POWER"]
    assert kinds([domain(power="OFF")], [seen()]) == ["POWER"]
    assert kinds([domain(vcpus=2)], [seen()]) == ["SPEC"]
    assert kinds([domain()], [seen(generation=5)]) == ["GENERATION_AHEAD"]
    assert kinds([domain(vcpus=2)], [seen(generation=5, state="SHUTOFF")]) == ["POWER", "SPEC", "GENERATION_AHEAD"]


def test_a_port_that_is_not_wired() -> None:
    wish = agent.DesiredObject(kind="port", object_id="p", generation=1, port=agent.PortSpec(port_id="p"))
    there = api.HostObject(kind="port", object_id="p", generation=1, present=True, spec_digest=spec_digest(wish))
    there.port.wired = True
    assert differences([wish], [there]) == []
    there.port.wired = False
    assert [each.kind for each in differences([wish], [there])] == [public.DIFFERENCE_KIND_POWER]


def test_the_etag_is_of_what_was_listed_and_when() -> None:
    listed = differences([domain()], [])
    assert etag_of(2, listed) == etag_of(2, differences([domain()], []))
    assert len({etag_of(2, listed), etag_of(3, listed), etag_of(2, []), etag_of(2, differences([], [seen()]))}) == 4
