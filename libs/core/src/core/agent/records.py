"""What a host notes about itself and about each object that it was told of."""

from __future__ import annotations

from dataclasses import dataclass

from cirra.agent.v1.desired_pb2 import DesiredObject

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Record:
    """`established`: it has been made on this host, and not been removed since.

    `since`: seconds since the boot of that time. What is left of it to now is never more than what has passed, also
    after another boot (the machine was down as well): no clock that can be set decides when a tombstone is forgotten.
    `spec`: the digest of what it was made after (`core.agent.specs.spec_digest`).
    """

    generation: int
    tombstone: bool
    established: bool
    since: float
    epoch: int = 0
    spec: str = ""

    @property
    def wish(self) -> tuple[int, int]:
        """What orders wishes for one object."""
        return self.epoch, self.generation


@dataclass(frozen=True, slots=True)
class HostRecord:
    """`fresh_boot_id`: of the last boot in which the desired state was heard. `epoch`: the last one that the host has
    acted in. `told_epoch`: the one that it was last told. `acts`: whether to act in that."""

    fresh_boot_id: str = ""
    epoch: int = 0
    told_epoch: int = 0
    acts: bool = True


def key_of(desired: DesiredObject) -> Key:
    return desired.kind, desired.object_id


def wish_of(desired: DesiredObject) -> tuple[int, int]:
    """As `Record.wish`."""
    return desired.epoch, desired.generation
