"""Wishes for a guest, compared and changed: pure."""

from __future__ import annotations

from cirra.agent.v1 import desired_pb2 as agent
from cirra.conductor.v1.sagas_pb2 import GuestPower


def power_of(spec: agent.DomainSpec) -> GuestPower:
    """What a spec says of the guest's power."""
    return GuestPower(power=spec.power, boot=spec.boot, hard_boot=spec.hard_boot)


def set_power(spec: agent.DomainSpec, power: GuestPower) -> None:
    """The inverse."""
    spec.power, spec.boot, spec.hard_boot = power.power, power.boot, power.hard_boot


def copy_of(present: agent.DesiredObject) -> agent.DesiredObject:
    """A wish to be changed. It makes no disk: only a create's own wish does."""
    copy = agent.DesiredObject()
    copy.CopyFrom(present)
    copy.create = False
    return copy


def same_wish(present: agent.DesiredObject, wanted: agent.DesiredObject) -> bool:
    """Whether they differ in nothing but their generation."""
    copy = agent.DesiredObject()
    copy.CopyFrom(wanted)
    copy.generation = present.generation
    return copy == present
