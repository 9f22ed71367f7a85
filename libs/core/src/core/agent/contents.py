"""What an observe-only host has: every object by observation, and what was last done to it. Nothing is touched."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from google.protobuf.message import Message

from cirra.agent.v1.host_pb2 import HostObject, ReportContentsRequest
from core.agent.generations import GenerationStore
from core.agent.handler import AgentFailure, Handler
from core.agent.link import AgentLink
from core.agent.objects import Objects
from core.errors import CirraError

_log = structlog.get_logger(__name__)
_REPEAT_S = 60.0


class ContentsReporter:
    """Tells the conductor when there is something new to tell, and once a minute."""

    def __init__(self, link: AgentLink, objects: Objects, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._link = link
        self._objects = objects
        self._monotonic = monotonic
        self._said: tuple[bytes, float] | None = None

    async def report(self, epoch: int) -> None:
        """One look. What fails is logged, and nothing said: the conductor goes on waiting for it."""
        try:
            request = await self._look(epoch)
            content = request.SerializeToString(deterministic=True)
            if not self._is_old(content):
                await self._link.conductor.ReportContents(request)
                self._said = content, self._monotonic()
                _log.warning("observe-only: contents reported", epoch=epoch, objects=len(request.objects))
        except CirraError as error:
            _log.warning("contents not reported", reason=error.reason, error=error.message)

    def _is_old(self, content: bytes) -> bool:
        if self._said is None or self._said[0] != content:
            return False
        return self._monotonic() - self._said[1] < _REPEAT_S

    async def _look(self, epoch: int) -> ReportContentsRequest:
        store = self._link.store
        request = ReportContentsRequest(
            host=self._link.host, agent=self._link.agent, epoch=epoch, acted_epoch=store.epoch
        )
        for handler in self._objects.handlers:
            present = await handler.known_objects()
            for object_id in sorted(present | store.noted(handler.kind)):
                request.objects.append(await _object(handler, store, object_id, present=object_id in present))
        return request


async def _object(handler: Handler, store: GenerationStore, object_id: str, *, present: bool) -> HostObject:
    seen = HostObject(kind=handler.kind, object_id=object_id, present=present)
    record = store.find(handler.kind, object_id)
    if record is not None:
        seen.epoch, seen.generation = record.wish
        seen.tombstone, seen.spec_digest = record.tombstone, record.spec
    if present:
        _set_facts(seen, handler.kind, await _observed(handler, object_id))
    return seen


async def _observed(handler: Handler, object_id: str) -> Message | None:
    """None: it is there, and can't be looked at."""
    try:
        return await handler.look(object_id)
    except AgentFailure as failure:
        _log.warning("object not observed", kind=handler.kind, object_id=object_id, error=failure.message)
        return None


def _set_facts(seen: HostObject, kind: str, facts: Message | None) -> None:
    if facts is not None:
        getattr(seen, kind).CopyFrom(facts)
        getattr(seen, kind).SetInParent()
