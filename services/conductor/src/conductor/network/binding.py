"""A port on one host."""

from __future__ import annotations

from dataclasses import dataclass

from cirra.agent.v1 import desired_pb2 as agent
from cirra.network.v1 import network_pb2 as public
from conductor.hosts.observation import Observation


@dataclass(frozen=True, slots=True)
class Binding:
    """The port on one host: what it shall be there, and what the host last said of it."""

    state: public.PortBindingState.ValueType
    desired: agent.DesiredObject
    observation: Observation[agent.PortObserved] | None = None

    @property
    def generation(self) -> int:
        """Of the desired state."""
        return self.desired.generation

    @property
    def wired(self) -> bool:
        """The host has said so of what is desired now."""
        return self._observed_now and self.observation is not None and self.observation.facts.wired

    @property
    def failure(self) -> agent.Failure | None:
        """Why the host could not make it what is desired now."""
        if self._observed_now and self.observation is not None and self.observation.failed:
            return self.observation.failure
        return None

    @property
    def gone(self) -> bool:
        """Shall be absent, and is."""
        absent = self.observation is not None and self.observation.facts.absent
        return self.desired.absent and self._observed_now and absent

    @property
    def _observed_now(self) -> bool:
        return self.observation is not None and self.observation.generation >= self.generation


def same_wish(present: agent.DesiredObject, wanted: agent.DesiredObject) -> bool:
    """But for the generation."""
    copy = agent.DesiredObject()
    copy.CopyFrom(wanted)
    copy.generation = present.generation
    return copy == present
