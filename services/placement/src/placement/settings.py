"""Placement's settings; the common ones are in `core.settings`."""

from __future__ import annotations

from core.settings import ServiceSettings


class PlacementSettings(ServiceSettings):
    # Silence that makes a host DOWN; half of it makes it SUSPECTED.
    heartbeat_window_s: float = 6.0
    # "memory_mib=2,vcpus=-1": multipliers of weighers; 1 unless told. A negative one stacks guests.
    weigher_multipliers: str = ""

    @property
    def multipliers(self) -> dict[str, float]:
        pairs = (each.partition("=") for each in self.weigher_multipliers.split(",") if each.strip())
        return {name.strip(): float(value) for name, _, value in pairs}
