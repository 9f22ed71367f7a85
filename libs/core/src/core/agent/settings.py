"""Settings of every agent; an agent's own `settings.py` subclasses them."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from core.settings import ServiceSettings


class AgentSettings(ServiceSettings):
    # Made by enrolment: who this host is.
    host_directory: Path = Path("/var/lib/cirra/host")
    # What the agents make on this host: one folder for all of them.
    state_directory: Path = Path("/var/lib/cirra/state")
    # How often it is looked whether that is (still, again) the right one.
    state_folder_interval_s: float = Field(default=2.0, gt=0)
    # How often the conductor is asked for what has changed, and for everything.
    difference_interval_s: float = Field(default=10.0, gt=0)
    full_interval_s: float = Field(default=60.0, gt=0)
    # A failure to reconcile what this host never had is no news: its build's command may be under way. After this
    # time it is.
    unbuilt_grace_s: float = Field(default=900.0, ge=0)
    # Facts that didn't change are said again after this time, in case the first report was lost.
    repeat_after_s: float = Field(default=600.0, gt=0)
    # From the first desired state until faults are told: a process that has only begun would say that there are none.
    faults_after_s: float = Field(default=5.0, ge=0)
    # How often the inventory is looked at; it is reported when it changed, and every minute.
    inventory_interval_s: float = Field(default=10.0, gt=0)
    heartbeat_interval_s: float = Field(default=1.0, gt=0)
    # Objects worked on at the same time.
    concurrency: int = Field(default=16, ge=1)
    boot_id_file: Path = Path("/proc/sys/kernel/random/boot_id")
