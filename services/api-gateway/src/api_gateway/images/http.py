"""The HTTPS server of the downloads, within the service's own life."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette

from core.pki.tls import TlsFiles
from core.settings import split_address


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the process's own matter (`core.service`)."""
        yield


class HttpServer:
    """A server that is bound. `address`: host:port as bound."""

    def __init__(self, address: str, server: _Server, bound: socket.socket) -> None:
        self.address = address
        self._server = server
        self._socket = bound
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Serves until `stop`."""
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """Lets downloads under way end, for the time that the server was given for it."""
        self._server.should_exit = True
        await self._ended.wait()


def bind_http(app: Starlette, listen: str, tls: TlsFiles | None) -> HttpServer:
    """Raises OSError if the address is taken."""
    host, port = split_address(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,
        ssl_certfile=None if tls is None else str(tls.certificate),
        ssl_keyfile=None if tls is None else str(tls.key),
    )
    return HttpServer(f"{host}:{bound.getsockname()[1]}", _Server(config), bound)
