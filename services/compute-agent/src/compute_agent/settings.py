"""The compute-agent's settings, from the environment (prefix `CIRRA_`)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field

from core.agent.settings import AgentSettings


class ComputeAgentSettings(AgentSettings):
    driver: Literal["libvirt", "simulated"] = "libvirt"
    libvirt_uri: str = "qemu:///system"
    # How long one action waits for a libvirtd that is away, before it is put back to be tried again.
    libvirt_patience_s: float = Field(default=30.0, gt=0)
    # How long the start of a guest waits for the taps that the net-agent makes.
    tap_patience_s: float = Field(default=30.0, ge=0)
    # How long a guest may take to shut down before it is cut off.
    shutdown_grace_s: float = Field(default=60.0, ge=0)
    # How long a download goes on without a single new octet.
    image_download_patience_s: float = Field(default=120.0, gt=0)
    # A base without overlays goes after this time without use; how often that is looked at.
    image_unused_hours: float = Field(default=24.0, ge=0)
    image_eviction_interval_s: float = Field(default=3600.0, gt=0)
    # Of the simulated driver: what its host claims to have, and how long each operation takes.
    simulated_vcpus: int = Field(default=64, ge=1)
    simulated_memory_mib: int = Field(default=256 * 1024, ge=1)
    simulated_disk_gib: int = Field(default=4096, ge=1)
    simulated_latency_s: float = Field(default=0.0, ge=0)

    @property
    def image_unused_for(self) -> timedelta:
        return timedelta(hours=self.image_unused_hours)

    @property
    def probe_cache(self) -> Path:
        """Which guests the host was found to run; beside the host's identity, as it is about the machine."""
        return self.host_directory / "compute-probe.json"
