"""Saga `instance-start`: a guest that is off runs again, on its host and disk."""

from __future__ import annotations

from conductor.compute.power import power_saga

INSTANCE_START = power_saga("instance-start", "power_on")
