"""Derived objects (ADR 25): what this host must know of networks beside its own ports. One handler for each kind."""

from __future__ import annotations

import asyncio

from google.protobuf.message import Message

from cirra.agent.v1.desired_pb2 import DesiredObject
from core.agent.handler import AgentFailure
from core.agent.state_folder import StateFolder
from core.errors import InvalidArgument
from net_agent.drivers.base import NetworkDriver, NetworkFault
from net_agent.handlers.failures import failure_of
from net_agent.model import Derived, Key, Port, from_spec

_MISSING, _INVALID = "DERIVED_SPEC_MISSING", "DERIVED_SPEC_INVALID"


class Refusals:
    """Objects whose specification this agent can't read, and why: nothing is made of them, so nobody else would tell."""

    def __init__(self) -> None:
        self.failures: dict[Key, AgentFailure] = {}

    def note(self, key: Key, failure: AgentFailure) -> AgentFailure:
        self.failures[key] = failure
        return failure

    def clear(self, key: Key) -> None:
        self.failures.pop(key, None)


class DerivedHandler:
    """See `core.agent.handler.DerivedHandler`. Such an object holds no data: what a complete answer doesn't list goes.

    Nothing is reported of one that is right; what can't be made so, now or later, is told by `Healer` as one list.
    """

    def __init__(self, kind: str, driver: NetworkDriver, state: StateFolder, refusals: Refusals) -> None:
        self._kind = kind
        self._refusals = refusals
        self._driver = driver
        self._state = state

    @property
    def kind(self) -> str:
        return self._kind

    async def ensure(self, desired: DesiredObject) -> None:
        """Raises AgentFailure."""
        wanted = self._parse(desired)
        await asyncio.to_thread(self._state.require)
        try:
            await self._driver.keep(wanted)
        except NetworkFault as fault:
            raise failure_of(fault) from fault

    async def remove(self, desired: DesiredObject) -> None:
        """Raises AgentFailure."""
        await asyncio.to_thread(self._state.require)
        self._refusals.clear((self._kind, desired.object_id))
        try:
            await self._driver.drop(self._kind, desired.object_id)
        except NetworkFault as fault:
            raise failure_of(fault) from fault

    async def known_objects(self) -> set[str]:
        return set(await self._driver.kept(self._kind))

    def _parse(self, desired: DesiredObject) -> Derived:
        field, key = self._kind.replace("-", "_"), (self._kind, desired.object_id)
        if desired.WhichOneof("spec") != field:
            text = f"{self._kind} {desired.object_id} comes without its specification"
            raise self._refusals.note(key, AgentFailure(text, reason=_MISSING))
        spec: Message = getattr(desired, field)
        try:
            wanted = from_spec(self._kind, spec)
        except InvalidArgument as error:
            text = f"{self._kind} {desired.object_id}: {error}"
            raise self._refusals.note(key, AgentFailure(text, reason=_INVALID)) from error
        assert not isinstance(wanted, Port)
        self._refusals.clear(key)
        return wanted
