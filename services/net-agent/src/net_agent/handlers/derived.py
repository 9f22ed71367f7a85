"""Derived objects (ADR 25): what this host must know of networks beside its own ports. One handler for each kind."""

from __future__ import annotations

from google.protobuf.message import Message

from cirra.agent.v1.desired_pb2 import DesiredObject
from core.agent.handler import AgentFailure
from core.agent.state_folder import StateFolder
from core.errors import InvalidArgument
from net_agent.drivers.base import NetworkDriver, NetworkFault
from net_agent.handlers.failures import failure_of
from net_agent.model import Derived, Port, from_spec


class DerivedHandler:
    """See `core.agent.handler.DerivedHandler`. What differs later on is the `Healer`'s to find."""

    def __init__(self, kind: str, driver: NetworkDriver, state: StateFolder) -> None:
        self._kind = kind
        self._driver = driver
        self._state = state

    @property
    def kind(self) -> str:
        return self._kind

    async def ensure(self, desired: DesiredObject) -> None:
        """Raises AgentFailure."""
        wanted = self._parse(desired)
        await self._state.prove()
        try:
            await self._driver.keep(wanted)
        except NetworkFault as fault:
            raise failure_of(fault) from fault

    async def remove(self, desired: DesiredObject) -> None:
        """Raises AgentFailure."""
        await self._state.prove()
        try:
            await self._driver.drop(self._kind, desired.object_id)
        except NetworkFault as fault:
            raise failure_of(fault) from fault

    async def known_objects(self) -> set[str]:
        return set(await self._driver.kept(self._kind))

    def _parse(self, desired: DesiredObject) -> Derived:
        field = self._kind.replace("-", "_")
        if desired.WhichOneof("spec") != field:
            text = f"{self._kind} {desired.object_id} comes without its specification"
            raise AgentFailure(text, reason="DERIVED_SPEC_MISSING")
        spec: Message = getattr(desired, field)
        try:
            wanted = from_spec(self._kind, spec)
        except InvalidArgument as error:
            text = f"{self._kind} {desired.object_id}: {error}"
            raise AgentFailure(text, reason="DERIVED_SPEC_INVALID") from error
        assert not isinstance(wanted, Port)
        return wanted
