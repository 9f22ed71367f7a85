"""What a host has against what the log says of it: pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

from cirra.agent.v1 import desired_pb2 as agent
from cirra.agent.v1 import host_pb2 as api
from cirra.placement.v1 import differences_pb2 as public
from core.agent.specs import spec_digest

Difference = public.HostDifference

_POWER = {
    agent.DOMAIN_STATE_SHUTOFF: "off",
    agent.DOMAIN_STATE_RUNNING: "running",
    agent.DOMAIN_STATE_PAUSED: "paused",
    agent.DOMAIN_STATE_CRASHED: "crashed",
}


def differences(desired: Iterable[agent.DesiredObject], contents: Iterable[api.HostObject]) -> list[Difference]:
    """All of them, ordered by kind of object and id. `desired`: what the log wants on the host, absent objects too."""
    wanted = {(wish.kind, wish.object_id): wish for wish in desired}
    there = {(seen.kind, seen.object_id): seen for seen in contents}
    found: list[Difference] = []
    for key in sorted(wanted.keys() | there.keys()):
        found.extend(_between(wanted.get(key), there.get(key)))
    return found


def etag_of(epoch: int, listed: Sequence[Difference]) -> str:
    """Of a list: another one has another."""
    digest = hashlib.sha256(str(epoch).encode())
    for each in listed:
        digest.update(each.SerializeToString(deterministic=True))
    return digest.hexdigest()[:16]


def _between(wish: agent.DesiredObject | None, seen: api.HostObject | None) -> Iterator[Difference]:
    present = seen is not None and seen.present
    if wish is None:
        if seen is not None and present:
            yield _difference(public.DIFFERENCE_KIND_UNKNOWN, seen, "no record of it", _on_host(seen))
        return
    if not present:
        if not wish.absent:
            there = "removed" if seen is not None and seen.tombstone else "not there"
            yield _difference(public.DIFFERENCE_KIND_MISSING, wish, _by_cloud(wish), there)
        return
    assert seen is not None
    if wish.absent:
        yield _difference(public.DIFFERENCE_KIND_TO_BE_REMOVED, wish, _by_cloud(wish), _on_host(seen))
        return
    yield from _of_both(wish, seen)


def _of_both(wish: agent.DesiredObject, seen: api.HostObject) -> Iterator[Difference]:
    if wish.HasField("domain") and _power_differs(wish.domain.power, seen.domain.state):
        wanted = "on" if wish.domain.power == agent.DESIRED_POWER_ON else "off"
        state = _POWER.get(seen.domain.state, "no guest")
        yield _difference(public.DIFFERENCE_KIND_POWER, wish, f"power {wanted}", f"power {state}")
    if wish.HasField("port") and not seen.port.wired:
        yield _difference(public.DIFFERENCE_KIND_POWER, wish, "wired", "not wired")
    if seen.spec_digest and seen.spec_digest != spec_digest(wish):
        yield _difference(
            public.DIFFERENCE_KIND_SPEC, wish, f"specification {spec_digest(wish)}", f"specification {seen.spec_digest}"
        )
    if seen.generation > wish.generation:
        yield _difference(public.DIFFERENCE_KIND_GENERATION_AHEAD, wish, _by_cloud(wish), _on_host(seen))


def _power_differs(wanted: agent.DesiredPower.ValueType, state: agent.DomainState.ValueType) -> bool:
    runs = state in (agent.DOMAIN_STATE_RUNNING, agent.DOMAIN_STATE_PAUSED)
    return runs != (wanted == agent.DESIRED_POWER_ON)


def _by_cloud(wish: agent.DesiredObject) -> str:
    name = f"{wish.domain.display_name}, " if wish.domain.display_name else ""
    return f"{name}{'to be removed' if wish.absent else 'to be there'} by generation {wish.generation}"


def _on_host(seen: api.HostObject) -> str:
    parts = [_POWER.get(seen.domain.state, "no guest") if seen.HasField("domain") else "there"]
    if seen.HasField("domain") and not seen.domain.disk_present:
        parts.append("no disk")
    if seen.generation:
        parts.append(f"by generation {seen.generation} of epoch {seen.epoch}")
    return ", ".join(parts)


def _difference(
    kind: public.DifferenceKind.ValueType, of: agent.DesiredObject | api.HostObject, cloud: str, host: str
) -> Difference:
    return Difference(kind=kind, object_kind=of.kind, object_id=of.object_id, cloud=cloud, host=host)
