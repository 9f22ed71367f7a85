"""Who was heard when: on one clock, our own. Pure but for the clock, which is injected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from cirra.agent.v1 import desired_pb2 as agent
from placement.liveness.listening import Listening, Spell, Way

AGENT_COMPONENTS = ("compute", "net", "block")
NEEDED_AGENTS = ("compute", "net")
"""Without one of these a host can take no guest."""


@dataclass(frozen=True, slots=True)
class Heard:
    """`silence_ms` counts only while the tracker could hear at all. `nats_server`: through which it was heard."""

    component: str
    instance: str
    boot_id: str
    version: str
    host: str
    nats_server: str
    silence_ms: int
    up: bool


@dataclass(slots=True)
class _Entry:
    """What was heard last, in which spell, and how long that had lasted. `here`: by this very replica."""

    heartbeat: agent.Heartbeat
    through: Spell
    clear_s: float
    doubtful_s: float
    here: bool
    known_up: bool = True

    def listen(self, heartbeat: agent.Heartbeat, through: Spell) -> None:
        """Heard again, by this replica."""
        self.heartbeat, self.through, self.here, self.known_up = heartbeat, through, True, True
        self.clear_s, self.doubtful_s = through.clear_s, through.doubtful_s

    @property
    def silence_s(self) -> float:
        return self.through.clear_s - self.clear_s

    @property
    def doubtful_silence_s(self) -> float:
        return self.silence_s + self.through.doubtful_s - self.doubtful_s


class Tracker:
    """Measures silence. `tick` adds the time that passed to every silence, if the own ears work (`hearing`):
    a detector that hears nothing, not even itself, knows nothing of others."""

    def __init__(self, *, window_s: float, monotonic: Callable[[], float]) -> None:
        self.window_s = window_s
        self.heard_for_s = 0.0
        """How long this replica has been able to hear, in all."""
        self._monotonic = monotonic
        self._last_tick = monotonic()
        self._listening = Listening(grace_s=window_s)
        self._entries: dict[tuple[str, str], _Entry] = {}
        # The last lives of those that have left: another replica may not have heard of it yet.
        self._left: dict[tuple[str, str], str] = {}

    def heard(self, heartbeat: agent.Heartbeat) -> None:
        """One heartbeat came in. An older one of the same boot, delayed on its way, proves nothing."""
        key = (heartbeat.component, heartbeat.instance)
        known = self._entries.get(key)
        same_life = known is not None and known.heartbeat.boot_id == heartbeat.boot_id
        if same_life and known is not None and known.here and heartbeat.sequence <= known.heartbeat.sequence:
            return
        if heartbeat.leaving and heartbeat.component not in AGENT_COMPONENTS:
            if known is None or same_life:  # and not while a new life has begun
                self._entries.pop(key, None)
                self._left[key] = heartbeat.boot_id
            return
        if self._left:
            self._left.pop(key, None)
        if known is None:
            self._entries[key] = self._entry(heartbeat, here=True)
        else:
            known.listen(heartbeat, self._listening.through(heartbeat.nats_server))

    def expect(self, component: str, instance: str) -> None:
        """Silence counts for it from now on, though it was never heard here (after a takeover)."""
        if (component, instance) not in self._entries:
            missing = agent.Heartbeat(component=component, instance=instance)
            self._entries[component, instance] = self._entry(missing, here=False)

    def remember(self, known: Heard) -> None:
        """What another replica knew of it, unless it was heard here: it is `up` or not as that said, for a window."""
        key = (known.component, known.instance)
        present = self._entries.get(key)
        if (present is not None and present.here) or self._left.get(key) == known.boot_id:
            return
        heartbeat = agent.Heartbeat(
            component=known.component,
            instance=known.instance,
            boot_id=known.boot_id,
            version=known.version,
            host=known.host,
            nats_server=known.nats_server,
        )
        if present is not None and present.heartbeat.nats_server == known.nats_server:
            present.heartbeat, present.known_up = heartbeat, known.up
            return
        entry = self._entry(heartbeat, here=False)
        if present is not None:
            entry.clear_s -= present.silence_s
        entry.known_up = known.up
        self._entries[key] = entry

    def forget(self, component: str, instance: str) -> None:
        """Another replica heard it leave."""
        entry = self._entries.get((component, instance))
        if entry is not None and not entry.here:
            del self._entries[component, instance]

    def tick(self, *, hearing: bool, way: Way = lambda server: "") -> None:
        """Time passes. `way`: that of the canary which comes back through that NATS server.

        A tick longer than half a window means that this very process was asleep: it counts for nothing.
        """
        now = self._monotonic()
        passed = now - self._last_tick
        self._last_tick = now
        if not hearing:
            self._listening.go_deaf()
        elif passed <= self.window_s / 2:
            self.heard_for_s += passed
            self._listening.pass_time(passed, way)

    def silence_of(self, component: str, instance: str) -> float | None:
        """Seconds; None if it was never heard nor expected."""
        entry = self._entries.get((component, instance))
        return None if entry is None else entry.silence_s

    def boot_ids(self, host: str) -> dict[str, str]:
        """The boot id that each agent of a host told last, to this replica."""
        return {
            component: entry.heartbeat.boot_id
            for component in AGENT_COMPONENTS
            if (entry := self._entries.get((component, host))) is not None and entry.here
        }

    def is_steady(self, host: str, boot_ids: Mapping[str, str]) -> bool:
        """Whether its needed agents are heard in the boots that were known: the usual case, and told quickly."""
        patience_s = self.window_s / 2
        for component in NEEDED_AGENTS:
            entry = self._entries.get((component, host))
            if entry is None or not entry.here or entry.through.clear_s - entry.clear_s >= patience_s:
                return False
            if entry.through.doubtful_s != entry.doubtful_s or entry.heartbeat.boot_id != boot_ids.get(component):
                return False
        block = self._entries.get(("block", host))
        return block is None or block.heartbeat.boot_id == boot_ids.get("block", "")

    def silent(self, host: str, *, for_s: float) -> list[str]:
        """The agents that the host needs and that were silent for so long; one never heard is silent."""
        return [component for component, entry in self._needed(host) if entry is None or entry.silence_s >= for_s]

    def silent_in_doubt(self, host: str, *, for_s: float) -> list[str]:
        """The same, the time counted in which their NATS server was out of reach as well."""
        return [
            component
            for component, entry in self._needed(host)
            if entry is not None and entry.doubtful_silence_s >= for_s
        ]

    def nats_servers(self, host: str) -> list[str]:
        """Those that the needed agents of a host spoke through last."""
        found = {entry.heartbeat.nats_server for _, entry in self._needed(host) if entry is not None}
        return sorted(found - {""})

    def all(self) -> Iterable[Heard]:
        """Everything that was ever heard, in no order; `component` as its heartbeats say it."""
        for (component, instance), entry in self._entries.items():
            up = entry.silence_s < self.window_s and entry.doubtful_silence_s < self.patience_in_doubt_s
            yield Heard(
                component=component,
                instance=instance,
                boot_id=entry.heartbeat.boot_id,
                version=entry.heartbeat.version,
                host=entry.heartbeat.host or (instance if component in AGENT_COMPONENTS else ""),
                nats_server=entry.heartbeat.nats_server,
                silence_ms=round(entry.doubtful_silence_s * 1000),
                up=up and (entry.here or entry.known_up),
            )

    @property
    def patience_in_doubt_s(self) -> float:
        """Time enough for an agent to find another NATS server (a few pings, and a connection), and be heard again."""
        return self.window_s * 5

    def _entry(self, heartbeat: agent.Heartbeat, *, here: bool) -> _Entry:
        through = self._listening.through(heartbeat.nats_server)
        return _Entry(heartbeat, through, through.clear_s, through.doubtful_s, here)

    def _needed(self, host: str) -> Iterator[tuple[str, _Entry | None]]:
        for component in NEEDED_AGENTS:
            yield component, self._entries.get((component, host))
