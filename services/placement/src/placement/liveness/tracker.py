"""Who was heard when: on one clock, our own. Pure but for the clock, which is injected."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cirra.agent.v1 import desired_pb2 as agent

AGENT_COMPONENTS = ("compute", "net", "block")
NEEDED_AGENTS = ("compute", "net")
"""Without one of these a host can take no guest."""


@dataclass(frozen=True, slots=True)
class Heard:
    """`silence_ms` counts only while the tracker could hear at all."""

    component: str
    instance: str
    boot_id: str
    version: str
    silence_ms: int
    up: bool


@dataclass(slots=True)
class _Entry:
    heartbeat: agent.Heartbeat
    silence_s: float = 0.0


class Tracker:
    """Measures silence. `tick` adds the time that passed to every silence, if the own ears work (`hearing`):
    a detector that hears nothing, not even itself, knows nothing of others."""

    def __init__(self, *, window_s: float, monotonic: Callable[[], float]) -> None:
        self.window_s = window_s
        self._monotonic = monotonic
        self._last_tick = monotonic()
        self._entries: dict[tuple[str, str], _Entry] = {}

    def heard(self, heartbeat: agent.Heartbeat) -> None:
        """One heartbeat came in. An older one of the same boot, delayed on its way, proves nothing."""
        key = (heartbeat.component, heartbeat.instance)
        known = self._entries.get(key)
        same_life = known is not None and known.heartbeat.boot_id == heartbeat.boot_id
        if same_life and known is not None and heartbeat.sequence <= known.heartbeat.sequence:
            return
        self._entries[key] = _Entry(heartbeat)

    def expect(self, component: str, instance: str) -> None:
        """Silence counts for it from now on, though it was never heard here (after a takeover)."""
        missing = agent.Heartbeat(component=component, instance=instance)
        self._entries.setdefault((component, instance), _Entry(missing))

    def tick(self, *, hearing: bool) -> None:
        """Time passes. After a long pause of this very process, only one window at most counts."""
        now = self._monotonic()
        passed = now - self._last_tick
        self._last_tick = now
        if not hearing or passed > self.window_s / 2:
            return  # deaf, or asleep: nothing can be said of the others
        for entry in self._entries.values():
            entry.silence_s += passed

    def silence_of(self, component: str, instance: str) -> float | None:
        """Seconds; None if it was never heard nor expected."""
        entry = self._entries.get((component, instance))
        return None if entry is None else entry.silence_s

    def boot_ids(self, host: str) -> dict[str, str]:
        """The boot id that each agent of a host told last."""
        return {
            component: entry.heartbeat.boot_id
            for (component, instance), entry in self._entries.items()
            if instance == host and component in AGENT_COMPONENTS and entry.heartbeat.boot_id
        }

    def silent(self, host: str, *, for_s: float) -> list[str]:
        """The agents that the host needs and that were silent for so long; one never heard is silent."""
        return [
            component
            for component in NEEDED_AGENTS
            if (silence := self.silence_of(component, host)) is None or silence >= for_s
        ]

    def hosts(self) -> set[str]:
        return {instance for component, instance in self._entries if component in AGENT_COMPONENTS}

    def all(self) -> Iterable[Heard]:
        """Everything that was ever heard, by name."""
        for (component, instance), entry in sorted(self._entries.items()):
            service = f"{component}-agent" if component in AGENT_COMPONENTS else component
            yield Heard(
                component=service,
                instance=instance,
                boot_id=entry.heartbeat.boot_id,
                version=entry.heartbeat.version,
                silence_ms=round(entry.silence_s * 1000),
                up=entry.silence_s < self.window_s,
            )
