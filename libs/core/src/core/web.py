"""An HTTPS server within a service's process: uvicorn, whose signals and start are ours."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn

from core.pki.tls import TlsFiles
from core.service import Lifetime
from core.settings import split_address

KEEP_ALIVE_S = 75
STOP_GRACE_S = 5


class _Server(uvicorn.Server):
    """Leaves signals to `core.service`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass(frozen=True, slots=True)
class WebServer:
    """`address` is host:port with the port that is bound."""

    address: str


async def serve_web(app: Any, lifetime: Lifetime, *, listen: str, tls: TlsFiles | None, name: str) -> WebServer:
    """Serves an ASGI application until the process stops. Raises OSError if *listen* can't be bound.

    *tls* None: plain HTTP, for the tests of one part.
    """
    host, port = split_address(listen)
    bound = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=1024)
    # Connections inherit it. asyncio sets it only where the socket's protocol was named, and without it an answer in
    # two pieces, head and body, waits 40 ms for the client's delayed acknowledgement (tcp(7)).
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_GRACE_S,
        ssl_certfile=None if tls is None else str(tls.certificate),
        ssl_keyfile=None if tls is None else str(tls.key),
    )
    server = _Server(config)
    task = lifetime.start(server.serve(sockets=[bound]), name)

    async def stop() -> None:
        server.should_exit = True
        await asyncio.wait({task}, timeout=STOP_GRACE_S + 1)

    lifetime.on_stop(stop, name)
    while not server.started:
        if task.done():
            task.result()
        await asyncio.sleep(0.01)
    return WebServer(f"{host}:{bound.getsockname()[1]}")
