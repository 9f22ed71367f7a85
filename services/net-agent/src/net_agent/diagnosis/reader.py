"""Answers the question for a port's path (ADR 23)."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext

from cirra.agent.v1.desired_pb2 import Answer, ObjectFault, Question
from cirra.agent.v1.diagnosis_pb2 import (
    PATH_HOP_STATE_BROKEN,
    PATH_HOP_STATE_NOT_APPLICABLE,
    PATH_HOP_STATE_OK,
    PATH_HOP_STATE_UNKNOWN,
    PathFound,
    PathHop,
)
from core.agent.handler import AgentFailure
from net_agent.diagnosis.finding import Finding, State
from net_agent.diagnosis.ground import Ground
from net_agent.diagnosis.hops.inward import entrance
from net_agent.diagnosis.path import GuestPath, Targets, Wish
from net_agent.diagnosis.places import places, trace_of
from net_agent.diagnosis.probe.capture import watching
from net_agent.diagnosis.probe.voice import Voice, speaking_at
from net_agent.diagnosis.table import HOPS, SIDE, Hop
from net_agent.diagnosis.walk import walk

_STATES = {
    State.OK: PATH_HOP_STATE_OK,
    State.BROKEN: PATH_HOP_STATE_BROKEN,
    State.UNKNOWN: PATH_HOP_STATE_UNKNOWN,
    State.NOT_APPLICABLE: PATH_HOP_STATE_NOT_APPLICABLE,
}

FindGround = Callable[[str], Awaitable[Ground | None]]
"""A port's id → what the host knows of it; None: it was never told of it."""


class PathReader:
    """One walk at a time for a port: two voices on one tap would take each other's place."""

    def __init__(
        self, find_ground: FindGround, targets: Targets, faults: Callable[[], Sequence[ObjectFault]] = tuple
    ) -> None:
        """faults: what the net-agent can't make so now."""
        self._find_ground = find_ground
        self._targets = targets
        self._faults = faults
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def read(self, question: Question) -> Answer:
        """Raises AgentFailure for a port that this host was never told of."""
        about = question.path
        ground = await self._find_ground(about.port_id)
        if ground is None:
            raise AgentFailure(
                f"port {about.port_id} is not on this host",
                reason="PORT_NOT_HERE",
                remedy="the host has not been told of it yet, or has lost its records: see the net-agent's log",
            )
        async with self._locks[about.port_id]:
            path = GuestPath(ground, self._targets, Wish(about.to, about.from_cidr), faults=self._faults())
            hops = SIDE if about.side else HOPS
            return Answer(path=await diagnose(path, hops, capture=about.capture))

    async def look(self, port_id: str, hop: Hop) -> Finding | None:
        """At one hop of a port's path alone; None: the port is not on this host."""
        ground = await self._find_ground(port_id)
        if ground is None:
            return None
        async with self._locks[port_id], _speaking(ground, ground.port.device) as voice:
            [(_, finding)] = await walk(GuestPath(ground, self._targets, Wish(), voice=voice), [hop])
        return finding


async def diagnose(path: GuestPath, hops: Sequence[Hop] = HOPS, *, capture: bool = False) -> PathFound:
    """capture: the probes are followed, too."""
    ground = path.ground
    async with (
        _speaking(ground, ground.port.device) as path.voice,
        _speaking(ground, entrance(path)) as path.outside,
        watching(ground.namespaces, places(path) if capture else ()) as watches,
    ):
        found = await walk(path, hops)
    asked = [each for voice in (path.voice, path.outside) if voice is not None for each in voice.asked]
    traces = [trace_of(what, frame, watches) for what, frame in asked] if capture else []
    return PathFound(hops=[_message(hop, finding) for hop, finding in found], traces=traces)


def _speaking(ground: Ground, device: str | None) -> AbstractAsyncContextManager[Voice | None]:
    if device is None:
        return nullcontext()
    return speaking_at(ground.namespaces, device, ground.port.port_id)


async def read_simulated(question: Question) -> Answer:
    """Of a simulated host, where there is nothing to walk on."""
    seen = "this host's network is simulated: there are no packets"
    hop = PathHop(name="network", title="the host has a real network", observed=seen, reason="SIMULATED")
    hop.state = PATH_HOP_STATE_UNKNOWN
    return Answer(path=PathFound(hops=[hop]))


def _message(hop: Hop, finding: Finding) -> PathHop:
    return PathHop(
        name=hop.name,
        title=hop.title,
        state=_STATES[finding.state],
        inward=hop.inward,
        observed=finding.observed,
        reason=finding.reason,
        remedy=finding.remedy,
        others=finding.others,
    )
