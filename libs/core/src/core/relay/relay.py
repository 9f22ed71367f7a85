"""The relay: one replica at a time publishes the log to stream EVENTS.

The lease keeps replicas from working at the same time for nothing; it is not what makes them safe. That is the
expected sequence of each message: two relays publish the same events, and the stream takes each once.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import nats.errors
import structlog

from core.bus.connection import Bus
from core.bus.metrics import RELAY_POSITION
from core.bus.streams import StreamSettings
from core.errors import Unavailable
from core.eventlog.connections import backoff, is_transient
from core.eventlog.errors import LeaseLost
from core.eventlog.leases import Lease, Leases
from core.eventlog.log import EventLog
from core.eventlog.types import RecordedEvent
from core.relay.backlog import Backlog
from core.relay.mirror import Mirror, Mirrored
from core.relay.pipeline import Hearer, Pipeline, PipelineBroken
from core.relay.verdict import Evidence, Lost, Stale, Whole, judge

_log = structlog.get_logger(__name__)

LEASE_NAME = "relay"
LEASE_TTL = timedelta(seconds=6)
_SHORTER_LOG_PAUSE_S = 0.2
# As long as a watcher gathers changes: who only looks on sees no difference.
_GATHER_S = 0.05
_VERIFICATIONS = 5


class Relay:
    """`run` it on every replica of the conductor. `position`: how far the stream is known to mirror the log.

    `hearer`: who in this process follows the stream, and need not hear from NATS what this has published.
    """

    def __init__(
        self,
        log: EventLog,
        leases: Leases,
        bus: Bus,
        *,
        holder: str,
        settings: StreamSettings | None = None,
        lease_name: str = LEASE_NAME,
        lease_ttl: timedelta = LEASE_TTL,
        refill: int = 10_000,
        ack_timeout_s: float = 2.0,
        idle_check_s: float = 2.0,
        hearer: Hearer | None = None,
    ) -> None:
        self.position = 0
        self._event_log = log
        self._leases = leases
        self._bus = bus
        self._holder = holder
        self._lease_name = lease_name
        self._lease_ttl = lease_ttl
        self._ack_timeout_s = ack_timeout_s
        self._idle_check_s = idle_check_s
        self._refill = refill
        self._hearer = hearer
        self._mirror = Mirror(log, bus, settings or StreamSettings(), refill=refill)

    async def run(self) -> None:
        """For ever: waits for the lease, then relays until it is lost."""
        while True:
            try:
                async with self._leases.hold(self._lease_name, self._holder, self._lease_ttl) as held:
                    _log.info("relay.active", holder=self._holder)
                    await held.run(self._relay(held.lease))
            except LeaseLost as error:
                _log.warning("relay.lease_lost", holder=self._holder, error=str(error))

    async def wait_whole(self, poll_s: float = 0.1) -> None:
        """Returns once the stream is the log's mirror, and the log has all that was published: whichever replica holds
        the lease has seen to it. Before, nothing that the log says can be acted on. Waits for NATS and Postgres."""
        while True:
            await self._bus.wait_connected()
            try:
                evidence = await self._mirror.inspect()
                if evidence.same_server and isinstance(judge(evidence, refill=self._refill), Whole):
                    return
            except (nats.errors.Error, Unavailable) as error:
                _log.warning("relay.not_inspected", error=str(error))
            except Exception as error:
                if not is_transient(error):
                    raise
                _log.warning("relay.not_inspected", error=str(error))
            await asyncio.sleep(poll_s)

    async def _relay(self, lease: Lease) -> None:
        """Verify, publish until something is amiss, verify again. NATS or Postgres away: wait."""
        pauses = backoff()
        while True:
            await self._bus.wait_connected()
            try:
                mirrored = await self._verified(lease)
                async with self._pipeline(mirrored) as pipeline:
                    pauses = backoff()
                    await self._publish(pipeline, mirrored)
                continue
            except (PipelineBroken, nats.errors.Error, Unavailable) as error:
                _log.warning("relay.interrupted", error=str(error), kind=type(error).__name__)
            except Exception as error:
                if not is_transient(error):
                    raise
                _log.warning("relay.log_away", error=str(error))
            await asyncio.sleep(next(pauses))

    async def _verified(self, lease: Lease) -> Mirrored:
        """How far the stream mirrors the log. It is made anew where it does not; where it shows that the log has lost
        events, a new epoch is begun first."""
        for _ in range(_VERIFICATIONS):
            evidence = await self._mirror.inspect()
            epoch = evidence.head.epoch
            match judge(evidence, refill=self._refill):
                case Whole(position):
                    if evidence.same_server or await self._event_log.confirm_server(expected=epoch):
                        self._reached(position)
                        return Mirrored(position, epoch)
                case Stale(reason):
                    _log.warning("relay.stream_stale", reason=reason)
                    await self._rebuild(lease)
                case Lost() as lost:
                    await self._begin_epoch(lease, evidence, lost)
        raise PipelineBroken("the rebuilt stream is not the log's mirror either", 0)

    async def _begin_epoch(self, lease: Lease, evidence: Evidence, lost: Lost) -> None:
        _log.error("relay.log_lost_events", reason=lost.reason, head=evidence.head.position)
        await self._keep(lease)
        head = await self._event_log.raise_epoch(
            lost.reason,
            expected=evidence.head.epoch,
            above=lost.above,
            published_position=lost.published,
            actor="system/relay",
        )
        if head is not None:  # else another replica has raised it, and does the rest
            await self._mirror.forget_commands()
            await self._rebuild(lease)

    async def _rebuild(self, lease: Lease) -> None:
        await self._keep(lease)
        await self._mirror.rebuild()

    async def _keep(self, lease: Lease) -> None:
        """A relay that was paused must not delete what another built."""
        if not await self._leases.renew(lease):
            raise LeaseLost(lease.name, lease.holder, lease.fencing)

    def _reached(self, position: int) -> None:
        self.position = position
        RELAY_POSITION.set(position)

    def _pipeline(self, mirrored: Mirrored) -> Pipeline:
        return Pipeline(self._bus, mirrored.position, ack_timeout_s=self._ack_timeout_s, hearer=self._hearer)

    async def _publish(self, pipeline: Pipeline, mirrored: Mirrored) -> None:
        """Returns when the stream has to be verified again; PipelineBroken when publishing failed."""
        backlog = Backlog(self._event_log, pipeline.sent)
        told_of_more = False
        try:
            while True:
                events = await backlog.next()
                if events and not _within_epoch(events, mirrored.epoch):
                    _log.warning("relay.epoch_changed", epoch=mirrored.epoch, position=pipeline.sent)
                    return await pipeline.settle()
                await pipeline.send(events)
                if backlog.reads_ahead:
                    self._reached(pipeline.acked)
                    continue
                await pipeline.settle()
                self._reached(pipeline.acked)
                if told_of_more and not events:  # the log became shorter
                    return await asyncio.sleep(_SHORTER_LOG_PAUSE_S)
                told_of_more = await self._wait_for_more(Mirrored(pipeline.acked, mirrored.epoch))
                if not told_of_more:
                    return
        finally:
            await backlog.close()

    async def _wait_for_more(self, mirrored: Mirrored) -> bool:
        """True when the log has grown; False when the stream or the log is not what it was.

        Each time events are published, every service wakes for them. So those that nobody waits for go together.
        """
        while not await self._event_log.wait_beyond(mirrored.position, timeout=self._idle_check_s, gather_s=_GATHER_S):
            if not await self._mirror.is_at(mirrored):
                _log.warning("relay.stream_changed", position=mirrored.position)
                return False
        return True


def _within_epoch(events: list[RecordedEvent], epoch: int) -> bool:
    return events[-1].epoch <= epoch
