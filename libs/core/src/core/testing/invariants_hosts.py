"""What is on hosts and in the folder of blobs, against what the log says must be there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import UUID

from cirra.image.v1 import events_pb2 as image
from core.eventlog.types import RecordedEvent
from core.testing.invariants_holdings import Holdings
from core.testing.invariants_violation import Invariant, Violation


@dataclass(frozen=True, slots=True)
class Contents:
    """The ids of instances whose domains, and of ports whose devices, are on a host."""

    domains: Collection[str]
    ports: Collection[str]


class HostUnderCheck(Protocol):
    """A host that can be looked at, not by asking its agents."""

    @property
    def name(self) -> str: ...

    async def contents(self) -> Contents: ...


async def host_violations(host: HostUnderCheck, events: Sequence[RecordedEvent]) -> list[Violation]:
    """Guests that are missing, and guests and ports that nobody put there. *events*: all, from position 1 on."""
    contents = await host.contents()
    return list(_differences(host.name, contents, Holdings(events)))


def _differences(host: str, contents: Contents, holdings: Holdings) -> Iterator[Violation]:
    for uid in sorted(contents.domains):
        instance = holdings.instances.get(UUID(uid))
        if instance is None or host not in instance.present_on:
            yield Violation(Invariant.HOST, f"domain {uid} on {host}", "is there, and should not be")
    for instance_id, instance in holdings.instances.items():
        settled = not instance.deleted and not instance.task_id and instance.host == host
        if settled and host in instance.built_on and str(instance_id) not in contents.domains:
            yield Violation(Invariant.HOST, f"domain {instance_id} on {host}", "is not there, and should be")
    for uid in sorted(contents.ports):
        if host not in holdings.bindings.get(UUID(uid), ()):
            yield Violation(Invariant.HOST, f"port {uid} on {host}", "is there, and should not be")


def file_violations(folder: Path, events: Sequence[RecordedEvent]) -> list[Violation]:
    """Active images whose blob, `blobs/<sha256>`, is not there or has another size.

    A blob that no image has is no violation: the sweeper takes it when it is old enough.
    """
    active: dict[UUID, image.ImageActivated] = {}
    for event in events:
        if event.type == image.ImageActivated.DESCRIPTOR.full_name:
            active[event.aggregate_id] = image.ImageActivated.FromString(event.data)
        elif event.type == image.ImageDeleted.DESCRIPTOR.full_name:
            active.pop(event.aggregate_id, None)
    found: list[Violation] = []
    for image_id, made in active.items():
        blob = folder / "blobs" / made.sha256
        size = blob.stat().st_size if blob.is_file() else None
        if size != made.size_bytes:
            text = f"its blob {made.sha256} has {'no' if size is None else size} bytes, not {made.size_bytes}"
            found.append(Violation(Invariant.FILE, f"image {image_id}", text))
    return found
