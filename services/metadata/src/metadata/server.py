"""The HTTPS server within the service's process."""

from __future__ import annotations

import asyncio
import socket

import structlog

from core.pki.tls import TlsFiles, server_ssl_context
from core.settings import split_address
from metadata.http import Handler, ServerConnection

log = structlog.get_logger(__name__)

STOP_GRACE_S = 5.0
_BACKLOG = 1024


class HttpServer:
    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._connections: set[ServerConnection] = set()
        self._change = asyncio.Event()

    async def listen(self, listen: str, tls: TlsFiles | None) -> str:
        """Serves from now on; returns host:port with the port that is bound. Raises OSError if it can't be.

        tls None: plain HTTP, for the tests of one part.
        """
        host, port = split_address(listen)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        bound = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        # Connections inherit it; asyncio sets it only where the socket's protocol was named (tcp(7)).
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = None if tls is None else server_ssl_context(tls)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connect, sock=bound, backlog=_BACKLOG, ssl=context)
        return f"{host}:{bound.getsockname()[1]}"

    async def close(self) -> None:
        """Takes no more, and answers what was asked; what takes too long has no answer."""
        self._server.close()
        for connection in tuple(self._connections):
            connection.end()
        try:
            async with asyncio.timeout(STOP_GRACE_S):
                await self._none_left()
        except TimeoutError:
            log.warning("some requests were not answered", connections=len(self._connections))
        for connection in tuple(self._connections):
            connection.abort()

    def _connect(self) -> ServerConnection:
        connection = ServerConnection(self._handler, self._ended)
        self._connections.add(connection)
        return connection

    def _ended(self, connection: ServerConnection) -> None:
        self._connections.discard(connection)
        self._change.set()

    async def _none_left(self) -> None:
        while self._connections:
            self._change.clear()
            await self._change.wait()
