"""Reading stream EVENTS from a sequence on, through an ephemeral consumer that is made again whenever it is lost."""

from __future__ import annotations

import contextlib
from collections.abc import Collection

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from core.bus.connection import Bus
from core.bus.envelope import event_filter
from core.bus.errors import ConsumerMissing
from core.bus.puller import Puller
from core.ids import uuid7

_log = structlog.get_logger(__name__)

_INACTIVE_S = 30.0
_HEARTBEAT_S = 2.0


class StreamReader:
    """Messages of EVENTS, in order, all or those of some `types` of events; whether one is missing between them is for
    the caller to see."""

    def __init__(self, bus: Bus, types: Collection[str] | None = None) -> None:
        self._bus = bus
        self._filters = None if types is None else sorted({event_filter(bus.cell, each) for each in types})
        self._stream = bus.subjects.events_stream
        self._puller: Puller | None = None
        self._consumer = ""

    @property
    def is_open(self) -> bool:
        return self._puller is not None

    async def open(self, first_sequence: int) -> bool:
        """Begins at `first_sequence`, or at the stream's first when that is gone; False when NATS won't now."""
        await self.close()
        name = f"tail-{uuid7().hex}"
        try:
            await self._bus.js.add_consumer(
                self._stream,
                ConsumerConfig(
                    name=name,
                    description=self._bus.name,
                    deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                    opt_start_seq=first_sequence,
                    filter_subjects=self._filters,
                    ack_policy=AckPolicy.NONE,
                    inactive_threshold=_INACTIVE_S,
                    num_replicas=1,
                    mem_storage=True,
                ),
            )
        except nats.errors.Error as error:
            _log.info("tail.no_consumer", stream=self._stream, error=f"{type(error).__name__}: {error}")
            return False
        self._consumer = name
        self._puller = Puller(self._bus, self._stream, name, heartbeat_s=_HEARTBEAT_S)
        return True

    async def fetch(self, limit: int, timeout_s: float) -> list[Msg]:
        """The next messages, empty after `timeout_s` or when the consumer is lost (then it is closed)."""
        if self._puller is None:
            raise ValueError("the reader is not open")
        try:
            return await self._puller.fetch(limit, timeout_s=timeout_s)
        except ConsumerMissing as error:
            _log.info("tail.consumer_lost", stream=self._stream, error=str(error))
            await self.close()
            return []

    async def close(self) -> None:
        puller, self._puller = self._puller, None
        if puller is None:
            return
        await puller.close()
        if self._bus.connected:  # else the server drops it by itself, after `inactive_threshold`
            with contextlib.suppress(nats.errors.Error):
                await self._bus.js.delete_consumer(self._stream, self._consumer)
