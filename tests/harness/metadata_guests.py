"""Guests of one network as a metadata proxy meets them, and the real proxy: a process, in front of real replicas.

    async with guest_network(folder, identity, network_id, ["10.0.0.5"]) as network:
        answer = await network.ask("10.0.0.5", "/latest/meta-data/")

The network is a namespace of its own in which the metadata address and the guests' addresses are local. It needs root.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import h11

from net_agent.drivers.linux.proxy import MetadataProxyProcess, ProxyIdentity
from net_agent.metadata_proxy.config import LISTEN_ADDRESS, LISTEN_PORT

TIMEOUT_S = 30.0
_CLONE_NEWNET = 0x4000_0000


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass(frozen=True, slots=True)
class GuestNetwork:
    namespace: Path
    proxy: MetadataProxyProcess

    def socket_of(self, address: str) -> socket.socket:
        """A socket that sends from a guest's address: it stays in the namespace that it was made in."""
        with open("/proc/thread-self/ns/net", "rb") as home, self.namespace.open("rb") as namespace:
            _enter(namespace.fileno())
            try:
                made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            finally:
                _enter(home.fileno())
        made.setblocking(False)
        made.bind((address, 0))
        return made

    async def connect(self, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        made = self.socket_of(address)
        try:
            await asyncio.get_running_loop().sock_connect(made, (LISTEN_ADDRESS, LISTEN_PORT))
        except BaseException:
            made.close()
            raise
        return await asyncio.open_connection(sock=made)

    async def ask(
        self,
        address: str,
        path: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """One request of a guest, over a connection of its own."""
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await self.connect(address)
            try:
                sent = {"Host": LISTEN_ADDRESS, "Content-Length": str(len(body)), **(headers or {})}
                return await _exchange(
                    reader, writer, h11.Request(method=method, target=path, headers=[*sent.items()]), body
                )
            finally:
                writer.close()


@asynccontextmanager
async def guest_network(
    folder: Path, identity: ProxyIdentity, network_id: str, addresses: Sequence[str]
) -> AsyncIterator[GuestNetwork]:
    """`folder`: for the proxy's files."""
    name = f"cirra-test-{os.urandom(4).hex()}"
    await asyncio.to_thread(folder.mkdir, parents=True)
    await asyncio.to_thread(_make_namespace, name, addresses)
    try:
        namespace = Path("/run/netns") / name
        network = GuestNetwork(namespace, MetadataProxyProcess(identity, network_id, folder, namespace))
        await asyncio.to_thread(network.proxy.ensure)
        try:
            yield network
        finally:
            await asyncio.to_thread(network.proxy.stop)
    finally:
        await asyncio.to_thread(_run, "ip", "netns", "del", name)


def _make_namespace(name: str, addresses: Sequence[str]) -> None:
    _run("ip", "netns", "add", name)
    commands = ["link set lo up", *(f"addr add {address}/32 dev lo" for address in (LISTEN_ADDRESS, *addresses))]
    _run("ip", "-n", name, "-batch", "-", text="\n".join(commands))


def _run(*command: str, text: str = "") -> None:
    subprocess.run(command, input=text, text=True, check=True, timeout=TIMEOUT_S)


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: h11.Request, body: bytes
) -> Answer:
    http = h11.Connection(h11.CLIENT)
    sent: tuple[h11.Event, ...] = (request, h11.Data(data=body), h11.EndOfMessage())
    writer.write(b"".join(http.send(event) or b"" for event in sent))
    response, content = None, bytearray()
    while not isinstance(event := http.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(65_536))
        elif isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data):
            content += event.data
        elif isinstance(event, h11.ConnectionClosed):
            raise ConnectionResetError("the proxy closed the connection")
    assert response is not None
    return Answer(
        response.status_code, {name.decode(): value.decode() for name, value in response.headers}, bytes(content)
    )
