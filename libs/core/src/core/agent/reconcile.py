"""The loop that asks the conductor what shall be, and has this host's objects made so.

Every few seconds it asks for the difference, every minute for everything: a command that was lost is found by the
first, an object that changed by itself by the second. Without the conductor it goes on asking, and nothing on the host
changes; nor does it while the host is observe-only, after a restore of the log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress

import structlog

from cirra.agent.v1.desired_pb2 import DesiredObject, OrphansObserved
from cirra.agent.v1.host_pb2 import GetDesiredStateRequest, GetDesiredStateResponse
from core.agent import orphans
from core.agent.contents import ContentsReporter
from core.agent.generations import GenerationStore
from core.agent.handler import DerivedHandler
from core.agent.link import AgentLink
from core.agent.objects import Cause, HostObserveOnly, Objects
from core.agent.records import Key, key_of
from core.errors import CirraError, Poison

_log = structlog.get_logger(__name__)
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 5.0


class Reconciler:
    """Compares with the conductor's desired state, for ever. `fresh` is set once it was heard since the host's boot."""

    def __init__(
        self,
        link: AgentLink,
        objects: Objects,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._link = link
        self._objects = objects
        self._monotonic = monotonic
        self._since = self._epoch = 0
        self._contents = ContentsReporter(link, objects, monotonic=monotonic)
        self._nudged = asyncio.Event()
        self._full_due = 0.0
        # The newest wish of each object whose turn has not come, and the tasks that bring the turn.
        self._wanted: dict[Key, tuple[DesiredObject, Cause]] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._telling: asyncio.Task[None] | None = None
        self.fresh = asyncio.Event()
        if link.store.had_fresh_state_in(link.boot_id):
            self.fresh.set()

    def nudge(self) -> None:
        """Reconcile everything soon, for instance because the hypervisor has come back."""
        self._full_due = self._monotonic()
        self._nudged.set()

    async def run(self) -> None:
        """For ever; when cancelled, leaves every object as it is."""
        try:
            while True:
                await self._once()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._link.settings.difference_interval_s):
                        await self._nudged.wait()
                self._nudged.clear()
        finally:
            await _cancel_all([*self._tasks.values(), *([self._telling] if self._telling else [])])

    async def _once(self) -> None:
        """Ask, and begin to make it so."""
        full = self._since == 0 or self._monotonic() >= self._full_due
        # Looked at before the question: what a command makes in between must not be taken for an orphan.
        found = await orphans.find(self._objects.handlers) if full else None
        answer = await self._until_answered(0 if full else self._since)
        await self._link.store.hear(answer.epoch, answer.accepted_epoch)
        if self._link.store.is_observing:
            await self._observe(answer)
            return
        await self._take_in(answer)
        if answer.complete:
            await self._remove_unlisted(answer)
        if full and answer.complete:
            self._full_due = self._monotonic() + self._link.settings.full_interval_s
            await self._after_full(answer, found)

    async def _until_answered(self, since: int) -> GetDesiredStateResponse:
        pause = _FIRST_PAUSE_S
        request = GetDesiredStateRequest(host=self._link.host, agent=self._link.agent, since=since, epoch=self._epoch)
        while True:
            try:
                answer: GetDesiredStateResponse = await self._link.conductor.GetDesiredState(request)
                return answer
            except CirraError as error:
                _log.warning("no desired state", reason=error.reason, error=error.message, again_in_s=pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    async def _take_in(self, answer: GetDesiredStateResponse) -> None:
        # All are learnt before a command may be handled: an old one must not win because it came to its turn first.
        for desired in answer.objects:
            self._link.store.learn(desired)
        await self._link.store.note_fresh_state(self._link.boot_id)
        self._since, self._epoch = answer.position, answer.epoch
        self.fresh.set()
        for desired in answer.objects:
            self._want(desired, "reconcile" if answer.complete else "difference")

    async def _observe(self, answer: GetDesiredStateResponse) -> None:
        """Until an administrator has accepted what differs here: look and tell, and leave all as it is."""
        self._wanted.clear()
        self._since = 0
        # Fresh it is: the conductor was heard, and wants nothing.
        await self._link.store.note_fresh_state(self._link.boot_id)
        self.fresh.set()
        await self._contents.report(answer.epoch)

    async def _after_full(self, answer: GetDesiredStateResponse, found: orphans.Found | None) -> None:
        listed = {key_of(desired) for desired in answer.objects}
        for kind, object_id in await self._link.store.prune(listed):
            self._link.reporter.forget(kind, object_id)
        if found is not None:
            self._tell_orphans(orphans.orphans_among(found, listed, self._link.store))

    async def _remove_unlisted(self, answer: GetDesiredStateResponse) -> None:
        """Derived objects that a complete answer doesn't list shall not be, unless they came by a command since."""
        listed = {key_of(desired) for desired in answer.objects}
        for handler in self._objects.derived_handlers:
            for object_id in await _unlisted(handler, self._link.store, listed):
                removal = DesiredObject(
                    host=self._link.host,
                    agent=self._link.agent,
                    kind=handler.kind,
                    object_id=object_id,
                    # Generations of derived objects are positions: what is newer than the answer is not touched by it.
                    generation=answer.position,
                    epoch=answer.epoch,
                    absent=True,
                )
                if self._link.store.accepts(removal):
                    self._link.store.learn(removal)
                    self._want(removal, "reconcile")

    def _tell_orphans(self, seen: OrphansObserved) -> None:
        """Without waiting for the bus, for which a report waits: this list replaces one that could not be told yet."""
        if self._telling is not None:
            self._telling.cancel()
        self._telling = asyncio.create_task(self._report_orphans(seen), name="report orphans")

    async def _report_orphans(self, seen: OrphansObserved) -> None:
        is_news = await self._link.reporter.report("orphans", self._link.host, seen, generation=0)
        if is_news and seen.orphans:
            _log.warning("orphans are left alone", found=[f"{it.kind} {it.object_id}" for it in seen.orphans])

    def _want(self, desired: DesiredObject, cause: Cause) -> None:
        """Have it made so, after what is being done to the object now; a newer wish replaces one that waits."""
        key = key_of(desired)
        if key in self._wanted and self._wanted[key][1] == "reconcile":
            cause = "reconcile"
        self._wanted[key] = desired, cause
        if key not in self._tasks:
            task = asyncio.create_task(self._make_so(key), name=f"reconcile {desired.kind} {desired.object_id}")
            self._tasks[key] = task
            task.add_done_callback(lambda _: self._tasks.pop(key, None))

    async def _make_so(self, key: Key) -> None:
        while (wanted := self._wanted.pop(key, None)) is not None:
            desired, cause = wanted
            try:
                await self._objects.apply(desired, cause)
            except Poison as error:
                _log.error("unknown wish", object_id=desired.object_id, error=error.message)
            except HostObserveOnly as error:
                _log.info("left as it is", object_id=desired.object_id, error=error.message)
            except Exception:
                # Held for a failure of the infrastructure: the next full comparison tries again.
                _log.exception("reconcile failed", kind=desired.kind, object_id=desired.object_id)


async def _cancel_all(tasks: Iterable[asyncio.Task[None]]) -> None:
    running = list(tasks)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def _unlisted(handler: DerivedHandler, store: GenerationStore, listed: Collection[Key]) -> list[str]:
    """Of a kind, what the agent keeps or was told to make, and what is not among *listed*; in order."""
    noted = {object_id for object_id in store.noted(handler.kind) if not store.is_tombstone(handler.kind, object_id)}
    found = noted | await handler.known_objects()
    return sorted(object_id for object_id in found if (handler.kind, object_id) not in listed)
