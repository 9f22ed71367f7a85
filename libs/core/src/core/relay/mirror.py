"""Stream EVENTS as a mirror of the end of the log: is it one, and how it becomes one again.

A sequence alone proves nothing: after a restore of the log the same position may hold another event. So the last
message of the stream is compared with the log by event id and epoch. What can't be proven is rebuilt, never
resumed: the stream is a window that readers don't depend on; they read the log where it does not reach.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import structlog
from nats.js import JetStreamContext
from nats.js.api import StreamConfig, StreamInfo
from nats.js.errors import APIError, NotFoundError

from core.bus.connection import Bus
from core.bus.envelope import identity_from_message
from core.bus.errors import Poison
from core.bus.streams import StreamSettings, events_config
from core.eventlog.log import EventLog
from core.eventlog.types import Head

_log = structlog.get_logger(__name__)

_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Mirrored:
    """The stream holds the log up to `position`; the log was in `epoch` when that was found."""

    position: int
    epoch: int


class Mirror:
    """`refill`: a rebuilt stream begins so many events before the head; so does one that is further behind."""

    def __init__(self, log: EventLog, bus: Bus, settings: StreamSettings, *, refill: int) -> None:
        self._log = log
        self._bus = bus
        self._settings = settings
        self._refill = refill
        self._stream = bus.subjects.events_stream

    @property
    def _jetstream(self) -> JetStreamContext:
        """Less patient than others: while a stream has no leader nobody answers; the next call finds the new one."""
        return self._bus.nc.jetstream(timeout=_TIMEOUT_S)

    async def verify(self) -> Mirrored | None:
        """How far the stream mirrors the log, or None when it must be rebuilt."""
        head = await self._log.head()
        try:
            info = await self._jetstream.stream_info(self._stream)
        except NotFoundError:
            _log.info("relay.stream_missing", stream=self._stream)
            return None
        last = info.state.last_seq
        mismatch = await self._mismatch(info, head)
        if mismatch:
            _log.warning("relay.stream_mismatch", stream=self._stream, sequence=last, reason=mismatch)
            return None
        return Mirrored(last, head.epoch)

    async def is_at(self, mirrored: Mirrored) -> bool:
        """Whether nothing has changed behind our back: a quick look, for idle times."""
        head = await self._log.head()
        try:
            info = await self._jetstream.stream_info(self._stream)
        except NotFoundError:
            return False
        return (
            info.state.last_seq == mirrored.position
            and head.epoch == mirrored.epoch
            and head.position >= mirrored.position
        )

    async def rebuild(self) -> None:
        """Deletes the stream and makes it anew, its next sequence the position `refill` before the head."""
        head = await self._log.head()
        first = max(1, head.position - self._refill + 1)
        config = await self._current_config()
        try:
            await self._jetstream.delete_stream(self._stream)
        except NotFoundError:
            _log.debug("relay.nothing_to_delete", stream=self._stream)
        await self._jetstream.add_stream(replace(config, first_seq=first if first > 1 else None))
        _log.warning("relay.stream_rebuilt", stream=self._stream, first_sequence=first, head=head.position)

    async def _current_config(self) -> StreamConfig:
        """The stream's own limits and replicas, else the configured ones."""
        wanted = events_config(self._bus.subjects, self._settings)
        try:
            found = (await self._jetstream.stream_info(self._stream)).config
        except APIError:
            return wanted
        return replace(wanted, num_replicas=found.num_replicas, max_age=found.max_age, max_bytes=found.max_bytes)

    async def _mismatch(self, info: StreamInfo, head: Head) -> str:
        """Why the stream is not the log's mirror, or an empty text."""
        last = info.state.last_seq
        if last > head.position:
            return f"the log ends at {head.position}"
        if info.state.messages == 0:
            if last + 1 != (info.config.first_seq or 1):
                return "its last message is gone"
            return "it begins too far back" if head.position - last > self._refill else ""
        try:
            message = await self._jetstream.get_msg(self._stream, seq=last)
            event_id, epoch = identity_from_message(message)
        except NotFoundError:
            return "its last message is gone"
        except Poison as error:
            return f"its last message is no event: {error}"
        recorded = await self._log.read(after=last - 1, limit=1, up_to=last)
        if not recorded:
            return "the log has no such event"
        if (event_id, epoch) != (recorded[0].event_id, recorded[0].epoch):
            return f"event {event_id} of epoch {epoch} is not the log's"
        return ""
