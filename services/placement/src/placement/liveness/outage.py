"""Tells the end of one host from an accident of many: pure but for the clock, which is injected."""

from __future__ import annotations

from collections.abc import Callable, Collection

MANY = 3


class Outages:
    """When a host falls silent, so may others: a rack's switch, a power feed, a NATS server.

    Together are those that fell within `together_s` of one another. They are many from `many` on, and in a small cloud
    from half of all, but never one alone.
    """

    def __init__(self, *, together_s: float, many: int = MANY, monotonic: Callable[[], float]) -> None:
        self._together_s = together_s
        self._many = many
        self._monotonic = monotonic
        self._fell: dict[str, float] = {}

    def clear(self) -> None:
        self._fell.clear()

    def fell(self, host: str) -> None:
        """It was declared down just now."""
        self._fell[host] = self._monotonic()

    def rose(self, host: str) -> None:
        self._fell.pop(host, None)

    def together(self, silent: Collection[str]) -> set[str]:
        """The hosts that are silent now and not declared yet, with those that were a short time ago."""
        since = self._monotonic() - self._together_s
        self._fell = {host: at for host, at in self._fell.items() if at >= since}
        return {*silent, *self._fell}

    def is_many(self, together: int, hosts: int) -> bool:
        """Whether so many of all hosts are an accident of many."""
        half = (hosts + 1) // 2
        return together >= max(2, min(self._many, half))
