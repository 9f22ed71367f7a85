"""Making networks: the segment's number is chosen at random and claimed by the append; who loses chooses again."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from cirra.identity.v1.identity_pb2 import Principal
from cirra.network.v1 import network_pb2 as public
from conductor.access import is_admin
from conductor.network.network import Network
from conductor.network.segments import FLAT, VLAN, Segments, choose_number, scope_of
from core.errors import Conflict, PermissionDenied, ResourceExhausted
from core.eventlog.errors import UniqueViolation
from core.ids import uuid7
from core.repository import Repository, Saved

# After so many lost races on a segment, what is taken there is read as a whole.
_SCAN_AFTER = 3
_MAX_TRIES = 200
_ADMINS_FIELDS = ("shared", "external", "physical_network", "segmentation_id")


def require_may_ask(principal: Principal, wanted: public.Network, segments: Segments) -> None:
    """What belongs to the provider only an administrator asks for. Raises PermissionDenied."""
    if is_admin(principal):
        return
    for name in _ADMINS_FIELDS:
        if getattr(wanted, name):
            raise PermissionDenied(f"network.{name}: only an administrator sets it", remedy="leave it out")
    if wanted.type == VLAN != segments.tenant_type:
        raise PermissionDenied(
            "network.type: only an administrator makes VLANs, which are the provider's", remedy="leave it out"
        )


async def create_network(
    repository: Repository, wanted: public.Network, segments: Segments, *, project_id: str, rng: random.Random
) -> tuple[Network, Saved]:
    """The network, saved. Raises InvalidArgument, ResourceExhausted (SEGMENTS_EXHAUSTED), and UniqueViolation for a
    segment that was asked for."""
    network = public.Network()
    network.CopyFrom(wanted)
    network.type = wanted.type or segments.type_of(wanted)
    # Before anything is chosen: what is wrong with the request is told first.
    Network.check(network, segments)
    if network.type == FLAT or network.segmentation_id:
        made = Network.create(uuid7(), network, project_id=project_id, segments=segments)
        return made, await repository.save(made)
    return await _with_free_number(repository, network, segments, project_id=project_id, rng=rng)


async def _with_free_number(
    repository: Repository, wanted: public.Network, segments: Segments, *, project_id: str, rng: random.Random
) -> tuple[Network, Saved]:
    choosing = _Choosing(repository, segments.choices(wanted), rng)
    last: UniqueViolation | None = None
    for _ in range(_MAX_TRIES):
        chosen = public.Network()
        chosen.CopyFrom(wanted)
        chosen.physical_network, chosen.segmentation_id = await choosing.next(wanted.type)
        made = Network.create(uuid7(), chosen, project_id=project_id, segments=segments)
        try:
            return made, await repository.save(made)
        except UniqueViolation as violation:
            if not await choosing.lost(violation):
                raise
            last = violation
    raise Conflict(f"others took every segment chosen, {_MAX_TRIES} times in a row; try again") from last


class _Choosing:
    """The tries of one request."""

    def __init__(self, repository: Repository, choices: Mapping[str, Sequence[range]], rng: random.Random) -> None:
        self._log = repository.log
        self._choices = list(choices.items())
        self._rng = rng
        # By unique scope: numbers that the tries so far have found taken, and how many races were lost there.
        self._taken: dict[str, set[int]] = defaultdict(set)
        self._races: Counter[str] = Counter()

    async def next(self, kind: public.NetworkType.ValueType) -> tuple[str, int]:
        """A physical network (empty for VXLAN) and a number that nobody is known to have. Raises ResourceExhausted."""
        self._rng.shuffle(self._choices)
        for label, ranges in self._choices:
            scope = scope_of(kind, label)
            number = choose_number(ranges, self._taken[scope], self._rng)
            if number is None:
                # What was found taken may be free again: nobody is refused on hearsay.
                await self._scan(scope)
                number = choose_number(ranges, self._taken[scope], self._rng)
            if number is not None:
                return label, number
        raise ResourceExhausted(
            "no segment is free for the network: every number that the cloud has for its type is in use",
            reason="SEGMENTS_EXHAUSTED",
            remedy="delete networks that are not needed; an administrator may allow more (CIRRA_VNI_RANGES and"
            " CIRRA_VLAN_RANGES of the conductor), or give network.segmentation_id",
        )

    async def lost(self, violation: UniqueViolation) -> bool:
        """Takes in a lost race; False if it was about something else."""
        scope = violation.scope
        if scope not in self._taken:
            return False
        self._taken[scope].add(int(violation.key))
        self._races[scope] += 1
        if self._races[scope] >= _SCAN_AFTER:
            await self._scan(scope)
        return True

    async def _scan(self, scope: str) -> None:
        """Reads every number in use; forgets what was found before."""
        self._taken[scope] = set(map(int, await self._log.unique_keys(scope)))
