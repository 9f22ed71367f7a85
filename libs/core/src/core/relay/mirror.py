"""Stream EVENTS as a mirror of the end of the log: what it shows, and how it is made anew.

The stream is a window that readers don't depend on: they read the log where it does not reach.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import structlog
from nats.js import JetStreamContext
from nats.js.api import StreamConfig
from nats.js.errors import APIError, NotFoundError

from core.bus.connection import Bus
from core.bus.envelope import identity_from_message
from core.bus.errors import Poison
from core.bus.streams import StreamSettings, events_config
from core.eventlog.log import EventLog
from core.relay.verdict import Evidence, Identity, StreamEnd

_log = structlog.get_logger(__name__)

_TIMEOUT_S = 2.0
_FOREIGN_AT_MOST = 32


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

    async def inspect(self) -> Evidence:
        """What there is to see. The stream first: it follows the log, so a head that is read later is not behind."""
        end = await self._end()
        same_server = await self._log.is_verified()
        head = await self._log.head()
        if end is not None and end.last_sequence > 0:
            recorded = await self._log.read(after=end.last_sequence - 1, limit=1, up_to=end.last_sequence)
            if recorded:
                end = replace(end, recorded=Identity(recorded[0].event_id, recorded[0].epoch))
        return Evidence(head=head, same_server=same_server, stream=end)

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
            and await self._log.is_verified()
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

    async def forget_commands(self) -> None:
        """Of another history: what is still wanted is sent again, and reconcile does the rest."""
        try:
            await self._jetstream.purge_stream(self._bus.subjects.commands_stream)
        except NotFoundError:
            _log.debug("relay.no_commands", stream=self._bus.subjects.commands_stream)

    async def _end(self) -> StreamEnd | None:
        try:
            info = await self._jetstream.stream_info(self._stream)
        except NotFoundError:
            return None
        end = StreamEnd(
            last_sequence=info.state.last_seq,
            is_empty=info.state.messages == 0,
            first_configured=info.config.first_seq or 1,
            last=None,
            recorded=None,
        )
        return end if end.is_empty else await self._last_event(end)

    async def _last_event(self, end: StreamEnd) -> StreamEnd:
        """With the last message that is an event; a few behind it may be foreign."""
        for sequence in range(end.last_sequence, max(0, end.last_sequence - _FOREIGN_AT_MOST), -1):
            try:
                message = await self._jetstream.get_msg(self._stream, seq=sequence)
                identity = Identity(*identity_from_message(message))
            except NotFoundError:
                return replace(end, last_sequence=sequence)
            except Poison as error:
                _log.warning("relay.foreign_message", sequence=sequence, error=str(error))
                end = replace(end, has_foreign_end=True)
            else:
                return replace(end, last_sequence=sequence, last=identity)
        return end

    async def _current_config(self) -> StreamConfig:
        """The stream's own limits and replicas, else the configured ones."""
        wanted = events_config(self._bus.subjects, self._settings)
        try:
            found = (await self._jetstream.stream_info(self._stream)).config
        except APIError:
            return wanted
        return replace(wanted, num_replicas=found.num_replicas, max_age=found.max_age, max_bytes=found.max_bytes)
