"""How long each NATS server was listened to: the time that silence is measured in. Pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from weakref import WeakSet

Way = Callable[[str], Hashable]
"""Tells which unbroken way leads through a NATS server, by its name, to the own ears; None: none does."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class Spell:
    """From one loss of a NATS server to the next, as who was heard last within it counts time, in seconds.

    `clear_s`: he would have been heard. `doubtful_s`: perhaps not, though others would: his server was out of reach,
    or it is back for less than `grace_s`. Its clients lost it as well, and need time to come back.
    """

    clear_s: float = 0.0
    doubtful_s: float = 0.0
    grace_s: float = 0.0

    def pass_time(self, passed_s: float, *, audible: bool) -> None:
        if not audible:
            self.doubtful_s += passed_s
            return
        granted_s = min(passed_s, self.grace_s)
        self.grace_s -= granted_s
        self.doubtful_s += granted_s
        self.clear_s += passed_s - granted_s


@dataclass(slots=True)
class _Server:
    """`way`: that led through it last. `seen`: whether there was a look at it. `former`: spells that still matter."""

    now: Spell = field(default_factory=Spell)
    former: WeakSet[Spell] = field(default_factory=WeakSet)
    way: Hashable = None
    seen: bool = False

    def pass_time(self, passed_s: float, way: Hashable, grace_s: float) -> None:
        if way != self.way and self.seen:
            self.lose(grace_s)
        self.way, self.seen = way, True
        for spell in (self.now, *self.former):
            spell.pass_time(passed_s, audible=way is not None)

    def lose(self, grace_s: float) -> None:
        """Nothing, if it is lost already."""
        if self.way is None:
            return
        self.way = None
        self.former.add(self.now)
        self.now = Spell()
        for spell in self.former:
            spell.grace_s = grace_s


class Listening:
    """To all NATS servers that somebody was heard through. `grace_s`: for the clients of one that was lost."""

    def __init__(self, *, grace_s: float) -> None:
        self._grace_s = grace_s
        self._servers: dict[str, _Server] = {}

    def through(self, server: str) -> Spell:
        """That of whoever is heard through it now."""
        found = self._servers.get(server)
        if found is None:
            found = self._servers[server] = _Server()
        return found.now

    def pass_time(self, passed_s: float, way: Way) -> None:
        for name, server in self._servers.items():
            server.pass_time(passed_s, way(name), self._grace_s)

    def go_deaf(self) -> None:
        """No server is heard: all are lost, and no time passes."""
        for server in self._servers.values():
            server.lose(self._grace_s)
