"""nats-py's parser, with a short way for subscriptions that only pour.

nats-py makes of each message an object, a place in a queue and a turn of a task: 30 µs. Of tens of thousands of
heartbeats a second that is too much, and none of it is needed.
Protocol: https://docs.nats.io/reference/reference-protocols/nats-protocol#msg
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

if TYPE_CHECKING:
    from core.bus.client import BusClient

# nats-server writes one space between the parts. With headers it is another word: HMSG.
_MESSAGE = re.compile(rb"MSG (\S+) (\d+) (?:\S+ )?(\d+)\r\n")
_LINE_END = 2


class PouringParser(Parser):
    """Hands messages of the client's `sinks` over as it reads them; all the rest is nats-py's."""

    nc: BusClient

    async def parse(self, data: bytes = b"") -> None:
        """Takes in what was read next."""
        await self._take_in(data)
        await self.nc.rest(len(data))

    async def _take_in(self, data: bytes) -> None:
        if self.nc.sinks and self.state == AWAITING_CONTROL_LINE:
            data = bytes(self.buf) + data
            self.buf.clear()
            poured, cut = self._pour(data)
            data = data[poured:]
            if cut:
                self.buf.extend(data)
                return
        await super().parse(data)

    def _pour(self, data: bytes) -> tuple[int, bool]:
        """How far the messages for sinks reach that it begins with, and whether the end of the next one is missing."""
        sinks, match, position = self.nc.sinks, _MESSAGE.match, 0
        while (found := match(data, position)) is not None:
            sink = sinks.get(int(found[2]))
            if sink is None:
                break
            begin = found.end()
            end = begin + int(found[3])
            if end + _LINE_END > len(data):
                return position, True
            sink(found[1], data[begin:end])
            position = end + _LINE_END
        return position, False
