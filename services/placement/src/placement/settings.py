"""Placement's settings; the common ones are in `core.settings`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from core.settings import ServiceSettings, split_list
from placement.hosts.capacity import MAX_RATIO, Ratios


class PlacementSettings(ServiceSettings):
    # Silence that makes a host DOWN; half of it makes it SUSPECTED.
    heartbeat_window_s: float = 6.0
    # So many hosts that fall silent together (in a small cloud: half of them) are an outage of something that they
    # share: their evacuation waits for a person.
    mass_outage_hosts: int = Field(default=3, ge=2)
    # "memory_mib=2,vcpus=-1": multipliers of weighers, in place of their own. A negative one stacks guests.
    weigher_multipliers: str = ""
    # Names of entry points that are installed and shall not be used.
    disabled_filters: Annotated[tuple[str, ...], NoDecode] = ()
    disabled_weighers: Annotated[tuple[str, ...], NoDecode] = ()
    # Of hosts that say nothing of their own, and are in no aggregate that does.
    cpu_allocation_ratio: float = Field(default=4.0, gt=0, le=MAX_RATIO)
    ram_allocation_ratio: float = Field(default=1.0, gt=0, le=MAX_RATIO)
    disk_allocation_ratio: float = Field(default=1.0, gt=0, le=MAX_RATIO)
    # The zone of hosts that enrol without one.
    default_availability_zone: str = "nova"

    @field_validator("disabled_filters", "disabled_weighers", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return split_list(value)

    @property
    def multipliers(self) -> dict[str, float]:
        pairs = (each.partition("=") for each in self.weigher_multipliers.split(",") if each.strip())
        return {name.strip(): float(value) for name, _, value in pairs}

    @property
    def ratios(self) -> Ratios:
        return Ratios(self.cpu_allocation_ratio, self.ram_allocation_ratio, self.disk_allocation_ratio)
