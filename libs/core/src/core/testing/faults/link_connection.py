"""One connection through a `TcpLink`: two pumps, each with the conditions of its way."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

_CHUNK_BYTES = 65536
_CHUNKS_UNDER_WAY = 256
_END = b""
# SO_LINGER on, with no time: close() sends RST (socket(7)).
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


class Filter(Protocol):
    """Looks at what passes over one connection, and may change it. None: the connection is cut there."""

    def to_server(self, data: bytes) -> bytes | None: ...

    def to_client(self, data: bytes) -> bytes | None: ...


Change = Callable[[bytes], bytes | None]


@dataclass
class Conditions:
    """What the link does to bytes that go one way. `delay_s`: to each; `bytes_per_s`: None is without limit."""

    delay_s: float = 0.0
    bytes_per_s: float | None = None
    _holds: int = 0
    _passable: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._passable.set()

    def hold(self) -> None:
        """Nothing passes until it was released as often."""
        self._holds += 1
        self._passable.clear()

    def release(self) -> None:
        self._holds -= 1
        if not self._holds:
            self._passable.set()

    async def passable(self) -> None:
        while not self._passable.is_set():
            await self._passable.wait()


class LinkConnection:
    """`sent`, `answered`: bytes that have passed to the server, and back."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: Conditions, down: Conditions
    ) -> None:
        self._client = (reader, writer)
        self._up = up
        self._down = down
        self._writers = [writer]
        self.sent = 0
        self.answered = 0

    def cut(self) -> None:
        """Closes both ends, after what is on its way."""
        for writer in self._writers:
            writer.close()

    def reset(self) -> None:
        """RST to both ends. Nothing if it is closed."""
        for writer in self._writers:
            connected = writer.get_extra_info("socket")
            if connected is not None and connected.fileno() >= 0:
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            writer.transport.abort()

    async def run(self, target: tuple[str, int], filter_: Filter | None) -> None:
        """Until both ends have closed, or one was reset. Nothing reaches the server while its way is held."""
        await self._up.passable()
        try:
            reader, writer = await asyncio.open_connection(*target)
            self._writers.append(writer)
            up, down = (None, None) if filter_ is None else (filter_.to_server, filter_.to_client)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(self._client[0], writer, self._up, up))
                tasks.create_task(self._pump(reader, self._client[1], self._down, down))
        except* ConnectionError:
            self.reset()  # what one end did, the other one shall see

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, conditions: Conditions, change: Change | None
    ) -> None:
        """Reads ahead, so that a delay costs no bandwidth; not without bound, so that a held sender feels it."""
        clock = asyncio.get_running_loop().time
        under_way: asyncio.Queue[tuple[float, bytes | ConnectionError]] = asyncio.Queue(_CHUNKS_UNDER_WAY)

        async def read() -> None:
            more = True
            while more:
                data: bytes | ConnectionError
                try:
                    data = await reader.read(_CHUNK_BYTES)
                except ConnectionError as error:
                    data = error
                await under_way.put((clock() + conditions.delay_s, data))
                more = isinstance(data, bytes) and data != _END

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(read())
            while True:
                due, data = await under_way.get()
                await asyncio.sleep(max(0.0, due - clock()))
                await conditions.passable()
                if isinstance(data, ConnectionError):
                    raise data
                if data == _END:
                    return await _end(writer)
                await self._pass_on(writer, data, conditions, change)

    async def _pass_on(
        self, writer: asyncio.StreamWriter, data: bytes, conditions: Conditions, change: Change | None
    ) -> None:
        changed = data if change is None else change(data)
        if changed is None:
            raise ConnectionAbortedError("cut by the filter")
        if conditions.bytes_per_s is not None:
            await asyncio.sleep(len(changed) / conditions.bytes_per_s)
        writer.write(changed)
        await writer.drain()
        if conditions is self._up:
            self.sent += len(changed)
        else:
            self.answered += len(changed)


async def _end(writer: asyncio.StreamWriter) -> None:
    """The sender has no more to say; the other way stays open (half-closed, as TCP has it)."""
    if not writer.transport.is_closing():
        try:
            writer.write_eof()
        except OSError as error:  # ENOTCONN: the other end has gone, and nobody has told us yet
            raise ConnectionResetError(str(error)) from error
