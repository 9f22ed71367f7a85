"""Answers the question for a port's path (ADR 23)."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable

from cirra.agent.v1.desired_pb2 import Answer, Question
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
from net_agent.diagnosis.path import GuestPath, Targets, Wish
from net_agent.diagnosis.probe.voice import speaking_as
from net_agent.diagnosis.table import HOPS, Hop
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

    def __init__(self, find_ground: FindGround, targets: Targets) -> None:
        self._find_ground = find_ground
        self._targets = targets
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
            return Answer(path=await diagnose(ground, self._targets, Wish(about.to, about.from_cidr)))


async def diagnose(ground: Ground, targets: Targets, wish: Wish) -> PathFound:
    async with speaking_as(ground.namespaces, ground.port) as voice:
        path = GuestPath(ground, voice, targets, wish)
        found = await walk(path, HOPS)
    return PathFound(hops=[_message(hop, finding) for hop, finding in found])


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
    )
