"""Saga `instance-stop`: the guest is asked by ACPI to shut down, or cut off; it keeps host, disk, addresses."""

from __future__ import annotations

from conductor.compute.power import power_saga

INSTANCE_STOP = power_saga("instance-stop", "power_off")
