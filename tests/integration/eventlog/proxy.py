"""A TCP proxy in front of Postgres that harms the connection which appends, and no other."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from enum import Enum, auto
from types import TracebackType
from urllib.parse import urlsplit, urlunsplit

_SYNC = b"S\x00\x00\x00\x04"  # the protocol's Sync message, the last of every request


class Harm(Enum):
    NONE = auto()
    CUT_BEFORE_REQUEST = auto()
    """Close the connection instead of passing the next append on."""
    CUT_BEFORE_ANSWER = auto()
    """Let the next append through, but close the connection when Postgres answers."""
    WITHHOLD_SYNC = auto()
    """Pass the next append on without its last message, as a client that is stopped in the middle would."""


class Proxy:
    """`harm` is done once, to the next append; `harmed` tells that it was."""

    def __init__(self, dsn: str) -> None:
        self._parts = urlsplit(dsn)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.harm = Harm.NONE
        self.harmed = asyncio.Event()

    @property
    def dsn(self) -> str:
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        location = self._parts.netloc.rsplit(":", 1)[0]
        return urlunsplit(self._parts._replace(netloc=f"{location}:{port}"))

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()

    async def _serve(self, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter) -> None:
        reader, writer = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        self._writers |= {client_writer, writer}
        link = _Link(self)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(client_reader, writer, link.request))
                tasks.create_task(self._pump(reader, client_writer, link.answer))
        finally:
            for end in (client_writer, writer):
                end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, harm: object) -> None:
        assert callable(harm)
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                data = harm(data)
                if data is None:
                    break
                writer.write(data)
                await writer.drain()
        writer.close()


class _Link:
    """One connection. It is the one that appends once it has prepared `append_batch`."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._appends = False
        self._cut_answer = False

    def request(self, data: bytes) -> bytes | None:
        if b"append_batch" in data:
            self._appends = True
        elif self._appends and self._proxy.harm is not Harm.NONE:
            harm, self._proxy.harm = self._proxy.harm, Harm.NONE
            self._cut_answer = harm is Harm.CUT_BEFORE_ANSWER
            if harm is Harm.CUT_BEFORE_REQUEST:
                self._proxy.harmed.set()
                return None
            if harm is Harm.WITHHOLD_SYNC:
                assert data.endswith(_SYNC)
                self._proxy.harmed.set()
                return data[: -len(_SYNC)]
        return data

    def answer(self, data: bytes) -> bytes | None:
        if self._cut_answer:
            self._proxy.harmed.set()
            return None
        return data
