"""`python -m net_agent.metadata_proxy CONFIG`: listens, goes into the background, and only then exits with 0.

Whoever starts it so knows that it serves, or reads on stderr why it doesn't. The address is its lock: a second one for
the same network can't listen and ends.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401  (needed later, when files may be out of reach)
import ctypes
import encodings.idna  # noqa: F401  (likewise)
import json
import os
import pwd
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path

import uvloop

from net_agent.metadata_proxy.config import LISTEN_ADDRESS_IPV6, ProxyConfig
from net_agent.metadata_proxy.memory import GuestsFile, Memory
from net_agent.metadata_proxy.server import MetadataProxy, Sender
from net_agent.metadata_proxy.upstream import Upstream

CLONE_NEWNET = 0x4000_0000
_BACKLOG = 1024


def main() -> int:
    config = ProxyConfig.from_file(Path(sys.argv[1]))
    try:
        key = Path(config.signing_key).read_bytes()
        upstream = Upstream(config.upstream_url, _tls(config))
        memory = Memory(GuestsFile(Path(config.guests_file)).who_has if config.guests_file else lambda address: "")
        listeners = listen(config)
    except (OSError, ValueError) as error:
        print(f"metadata proxy of network {config.network_id}: {error}", file=sys.stderr)
        return 1
    ready, tell_ready = os.pipe()
    if os.fork() > 0:
        os.close(tell_ready)
        return 0 if os.read(ready, 1) else 1
    os.close(ready)
    _detach(config)
    sender = Sender(config.host, config.network_id, key)
    uvloop.run(_serve(MetadataProxy(sender, upstream, memory, log), listeners, lambda: _say_ready(tell_ready)))
    return 0


def listen(config: ProxyConfig) -> list[socket.socket]:
    """A listening socket stays in the namespace it was made in, whoever has it: in, make it, back out."""
    listeners = []
    with open("/proc/self/ns/net", "rb") as home, open(config.namespace, "rb") as namespace:
        _enter(namespace.fileno())
        try:
            listeners.append(socket.create_server((config.listen_address, config.listen_port), backlog=_BACKLOG))
            if config.ipv6_interface:
                scope = socket.if_nametoindex(config.ipv6_interface)
                place = (LISTEN_ADDRESS_IPV6, config.listen_port, 0, scope)
                listeners.append(socket.create_server(place, family=socket.AF_INET6, backlog=_BACKLOG))
            for listener in listeners:
                # Connections inherit it; asyncio sets it only where the socket's protocol was named.
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        finally:
            _enter(home.fileno())
    return listeners


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")


def _tls(config: ProxyConfig) -> ssl.SSLContext | None:
    if not config.upstream_url.startswith("https:"):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cafile=config.authority)
    context.load_cert_chain(certfile=config.certificate, keyfile=config.private_key)
    return context


def _detach(config: ProxyConfig) -> None:
    """A session of its own, its own log, its pid where the agent looks for it, and no more rights than it needs."""
    os.setsid()
    os.chdir("/")
    output = os.open(config.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.close(output)
    pid_file = Path(config.pid_file)
    temporary = pid_file.with_name(f".{pid_file.name}.new")
    temporary.write_text(f"{os.getpid()}\n")
    temporary.replace(pid_file)
    if config.user:
        entry = pwd.getpwnam(config.user)
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)


async def _serve(proxy: MetadataProxy, listeners: list[socket.socket], say_ready: Callable[[], None]) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    servers = [await loop.create_server(proxy.connection, sock=each, backlog=_BACKLOG) for each in listeners]
    for listener in listeners:
        log(event="listening", address=listener.getsockname()[0], pid=os.getpid())
    say_ready()
    await stopping.wait()
    for server in servers:
        server.close()
    log(event="stopped", pid=os.getpid())


def _say_ready(descriptor: int) -> None:
    os.write(descriptor, b"r")
    os.close(descriptor)


def log(**fields: object) -> None:
    """A JSON line; seconds since 1970 as `time`."""
    print(json.dumps({"time": round(time.time(), 3), **fields}), file=sys.stderr, flush=True)


if __name__ == "__main__":
    # Not sys.exit in the child: what it inherited belongs to the process that it was forked from.
    sys.exit(main())
