"""What is on the host and was never the cloud's: found with each full comparison, told as one list, never touched."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from cirra.agent.v1.desired_pb2 import Orphan, OrphansObserved
from core.agent.generations import GenerationStore
from core.agent.handler import Handler
from core.agent.records import Key
from core.errors import CirraError

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """`known`: kind → ids of Cirra's objects. `strangers`: what is not Cirra's, or no wish can name."""

    known: Mapping[str, Collection[str]]
    strangers: Sequence[Orphan]


async def find(handlers: Iterable[Handler]) -> Found | None:
    """Everything on the host; None when a part of it can't be looked at now: half a list would say that things went."""
    known: dict[str, set[str]] = {}
    strangers: list[Orphan] = []
    for handler in handlers:
        try:
            known[handler.kind] = await handler.known_objects()
            strangers.extend(await handler.strangers())
        except CirraError as error:
            _log.warning("can't look for orphans", kind=handler.kind, reason=error.reason, error=error.message)
            return None
    return Found(known, strangers)


def orphans_among(found: Found, listed: Collection[Key], store: GenerationStore) -> OrphansObserved:
    """Those that the cloud neither lists nor, by the store, ever named here; in order, to be compared."""
    orphans = [
        Orphan(kind=kind, object_id=object_id, description=f"a {kind} of Cirra's that the cloud has no record of")
        for kind, object_ids in found.known.items()
        for object_id in object_ids
        if (kind, object_id) not in listed and not store.knows(kind, object_id)
    ]
    orphans.extend(found.strangers)
    return OrphansObserved(orphans=sorted(orphans, key=lambda orphan: (orphan.kind, orphan.object_id)))
