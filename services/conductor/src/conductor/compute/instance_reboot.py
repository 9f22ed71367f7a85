"""Saga `instance-reboot`: the guest is booted once, softly or hard; also one that is off, when it is hard."""

from __future__ import annotations

from conductor.compute.power import power_saga

INSTANCE_REBOOT = power_saga("instance-reboot", "boot_anew")
