"""Making single objects as desired, whoever asks: a command, the start, or the timer.

One at a time for an object, a bounded number at a time for the host. What is older than what was acted on is refused.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Literal, cast

import structlog
from google.protobuf.message import Message

from cirra.agent.v1.desired_pb2 import DesiredObject, Effort
from core import metrics, telemetry
from core.agent.derived import is_derived
from core.agent.faults import Faults
from core.agent.generations import GenerationStore
from core.agent.handler import AgentFailure, DerivedHandler, Handler
from core.agent.locks import KeyedLocks
from core.agent.records import Key, key_of, wish_of
from core.agent.reporter import Reporter
from core.errors import Poison, Unavailable

_log = structlog.get_logger(__name__)

# "difference": what has changed of the desired state; "reconcile": all of it, to find what has changed by itself.
Cause = Literal["command", "difference", "reconcile"]


class HostObserveOnly(Unavailable):
    """The log was restored: this host does nothing before an administrator has accepted what differs here."""

    reason = "HOST_OBSERVE_ONLY"

    def __init__(self, acts_in: int, told: int) -> None:
        super().__init__(f"this host acts in epoch {acts_in}, and was not accepted in epoch {told}")


class Objects:
    """The objects of one agent on this host."""

    def __init__(
        self,
        agent: str,
        handlers: Iterable[Handler | DerivedHandler],
        store: GenerationStore,
        reporter: Reporter,
        faults: Faults,
        *,
        concurrency: int,
        unbuilt_grace_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._agent = agent
        self._handlers = {handler.kind: handler for handler in handlers}
        self.handlers = tuple(cast(Handler, it) for it in self._handlers.values() if not is_derived(it.kind))
        self.derived_handlers = tuple(cast(DerivedHandler, it) for it in self._handlers.values() if is_derived(it.kind))
        self._store = store
        self._reporter = reporter
        self._faults = faults
        self._locks = KeyedLocks()
        self._slots = asyncio.Semaphore(concurrency)
        # The wish that each object was last made after, by this process.
        self._made: dict[Key, tuple[int, int]] = {}
        # The newest command on an object that is being done, or waits for that.
        self._commanded: dict[Key, tuple[int, int]] = {}
        self._unbuilt_grace_s = unbuilt_grace_s
        self._monotonic = monotonic
        self._unbuilt_since: dict[Key, tuple[int, float]] = {}

    async def apply(self, desired: DesiredObject, cause: Cause) -> None:
        """Make it so and report the facts, or the failure; returns once JetStream has the report.

        A command that is said again while it is being done returns at once: it must not take a turn from others, and
        who waits for the answer says it again. Raises Poison for a kind that this agent doesn't know, and what the
        handler raises other than AgentFailure.
        """
        handler = self._handlers.get(desired.kind)
        if handler is None and is_derived(desired.kind):
            self._lack_handler(desired)
            return
        if handler is None:
            raise Poison(f"the {self._agent}-agent has no handler for a {desired.kind!r}")
        if cause != "command":
            await self._make_so(handler, desired, cause)
        elif self._commanded.get(key_of(desired)) == wish_of(desired):
            _log.info("command said again, under way", **_attributes(desired, cause))
        else:
            self._commanded[key_of(desired)] = wish_of(desired)
            try:
                await self._make_so(handler, desired, cause)
            finally:
                if self._commanded.get(key_of(desired)) == wish_of(desired):
                    del self._commanded[key_of(desired)]

    def _lack_handler(self, desired: DesiredObject) -> None:
        """The conductor is newer than this agent: what the other objects are for goes on."""
        if desired.absent:
            self._faults.clear(desired.kind, desired.object_id)
            return
        failure = AgentFailure(
            f"the {self._agent}-agent of this host knows no {desired.kind}",
            reason="KIND_UNKNOWN",
            remedy=f"upgrade the {self._agent}-agent",
        )
        self._faults.put(desired.kind, desired.object_id, failure)

    async def _make_so(self, handler: Handler | DerivedHandler, desired: DesiredObject, cause: Cause) -> None:
        key = key_of(desired)
        async with self._locks.held(key):
            self._require_accepted(desired)
            if not self._store.accepts(desired):
                await self._refuse(desired, cause)
                return
            if self._is_made(desired, cause):
                return
            self._made.pop(key, None)
            await self._store.record(desired)
            try:
                async with self._slots:
                    facts, effort = await self._act(handler, desired, cause)
            except AgentFailure as failure:
                await self._fail(desired, failure, cause)
                return
            self._store.settle(desired)
            self._unbuilt_since.pop(key, None)
            await self._tell_done(desired, facts, effort, cause)
            if not desired.absent:
                self._made[key] = wish_of(desired)

    def _is_made(self, desired: DesiredObject, cause: Cause) -> bool:
        """Whether there is nothing to do by what this process has done: its command was not lost. A derived object is
        not looked at here even when all are: its agent finds by itself what has changed of it."""
        if desired.absent or self._made.get(key_of(desired)) != wish_of(desired):
            return False
        return cause == "difference" or is_derived(desired.kind)

    async def _tell_done(self, desired: DesiredObject, facts: Message | None, effort: Effort, cause: Cause) -> None:
        if is_derived(desired.kind):
            self._faults.clear(desired.kind, desired.object_id)
            return
        # A removal is listed by the conductor until it has heard of it: it is said again as long as it is asked.
        await self._report(desired, facts, effort=effort, force=cause == "command" or desired.absent)

    def _require_accepted(self, desired: DesiredObject) -> None:
        """Raises HostObserveOnly unless this host may act on a wish of that epoch. Older ones are refused elsewhere."""
        waits = self._store.is_observing and desired.epoch >= self._store.told_epoch
        if waits or desired.epoch > self._store.epoch:
            raise HostObserveOnly(self._store.epoch, max(desired.epoch, self._store.told_epoch))

    async def _act(
        self, handler: Handler | DerivedHandler, desired: DesiredObject, cause: Cause
    ) -> tuple[Message | None, Effort]:
        verb = "remove" if desired.absent else "ensure"
        began = self._monotonic()
        outcome = "error"
        try:
            attributes = _attributes(desired, cause)
            with telemetry.tracer().start_as_current_span(f"{verb} {desired.kind}", attributes=attributes):
                done = await self._effect(handler, desired, cause)
            outcome = "done"
            return done
        except AgentFailure:
            outcome = "failed"
            raise
        finally:
            elapsed = self._monotonic() - began
            metrics.COMMANDS.labels(self._agent, desired.kind, cause, outcome).observe(elapsed)

    async def _effect(
        self, handler: Handler | DerivedHandler, desired: DesiredObject, cause: Cause
    ) -> tuple[Message | None, Effort]:
        if desired.absent:
            return await handler.remove(desired), Effort()
        began = established = self._monotonic()
        # Once, whatever brings the command again: nothing blank is put in the place of what was lost. That is noted
        # before anything uses what was made.
        if desired.create and cause == "command" and not self._store.is_established(*key_of(desired)):
            await cast(Handler, handler).establish(desired)
            await self._store.establish(desired)
            established = self._monotonic()
        facts = await handler.ensure(desired)
        ended = self._monotonic()
        return facts, Effort(establishing_us=_us(established - began), ensuring_us=_us(ended - established))

    async def _refuse(self, desired: DesiredObject, cause: Cause) -> None:
        acted_on = self._store.generation(desired.kind, desired.object_id)
        _log.info("older wish ignored", **_attributes(desired, cause), acted_on=acted_on)
        metrics.COMMANDS.labels(self._agent, desired.kind, cause, "refused").observe(0)
        if is_derived(desired.kind):
            return
        # Somebody does not know what was done since: perhaps the report of it was lost.
        await self._reporter.repeat(desired.kind, desired.object_id)

    async def _fail(self, desired: DesiredObject, failure: AgentFailure, cause: Cause) -> None:
        if is_derived(desired.kind):
            _log.warning("fault", **_attributes(desired, cause), reason=failure.reason, error=failure.message)
            self._faults.put(desired.kind, desired.object_id, failure)
            return
        if cause != "command" and self._is_unbuilt(desired):
            _log.info("not on this host yet", **_attributes(desired, cause), reason=failure.reason)
            return
        _log.warning("not as desired", **_attributes(desired, cause), reason=failure.reason, error=failure.message)
        await self._report(desired, failure.facts, failure=failure, force=cause == "command")

    async def _report(
        self,
        desired: DesiredObject,
        facts: Message | None,
        *,
        failure: AgentFailure | None = None,
        effort: Effort | None = None,
        force: bool,
    ) -> None:
        await self._reporter.report(
            desired.kind,
            desired.object_id,
            facts,
            failure=failure.to_message() if failure else None,
            generation=desired.generation,
            effort=effort,
            force=force,
        )

    def _is_unbuilt(self, desired: DesiredObject) -> bool:
        """Whether this host never had the object, and the command that may create it can still be under way.

        Reconcile may create nothing, so that it must fail then; but to report that would fail the saga whose build has
        only begun.
        """
        key = key_of(desired)
        if desired.absent or self._store.is_established(*key):
            return False
        generation, since = self._unbuilt_since.get(key, (-1, 0.0))
        if generation != desired.generation:
            since = self._monotonic()
            self._unbuilt_since[key] = (desired.generation, since)
        return self._monotonic() - since < self._unbuilt_grace_s


def _us(seconds: float) -> int:
    return round(seconds * 1e6)


def _attributes(desired: DesiredObject, cause: Cause) -> dict[str, str | int | bool]:
    return {
        "kind": desired.kind,
        "object_id": desired.object_id,
        "epoch": desired.epoch,
        "generation": desired.generation,
        "absent": desired.absent,
        "cause": cause,
    }
