"""Connections between namespaces, and what is seen on a wire. A socket stays in the namespace that it was made in."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from net_agent.drivers.linux.namespace import Namespaces

_TIMEOUT_S = 30.0
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP = 263, 1


class Ended(Exception):
    """Nothing more comes over this connection."""


@dataclass
class Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, text: str, *, timeout_s: float = _TIMEOUT_S) -> str:
        """A line there, a line back. Raises Ended when none comes."""
        try:
            async with asyncio.timeout(timeout_s):
                self.writer.write(f"{text}\n".encode())
                await self.writer.drain()
                line = await self.reader.readline()
        except (OSError, TimeoutError) as error:
            raise Ended from error
        if not line:
            raise Ended
        return line.decode().strip()

    async def close(self) -> None:
        self.writer.close()


async def connect(
    spaces: Namespaces, name: str, address: object, port: int, *, source_port: int = 0, timeout_s: float = _TIMEOUT_S
) -> Connection:
    def make() -> socket.socket:
        family = socket.AF_INET6 if ":" in str(address) else socket.AF_INET
        made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", source_port))
        return made

    made = await spaces.inside(name, make)
    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.get_running_loop().sock_connect(made, (str(address), port))
    except BaseException:
        made.close()
        raise
    return Connection(*await asyncio.open_connection(sock=made))


@asynccontextmanager
async def serving(spaces: Namespaces, name: str, port: int, says: str = "") -> AsyncIterator[list[str]]:
    """A server that answers each line with `<says> <who asks> <line>`. Gives the addresses of all who came."""
    came: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        who = writer.get_extra_info("peername")[0]
        came.append(who)
        try:
            while line := await reader.readline():
                writer.write(f"{says} {who} ".encode() + line)
                await writer.drain()
        except OSError:
            came.append(f"{who} was cut off")
        finally:
            writer.close()

    server = await asyncio.start_server(serve, sock=await spaces.inside(name, lambda: _listen(port)))
    try:
        yield came
    finally:
        server.close()


def _listen(port: int) -> socket.socket:
    """For both address families."""
    made = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("::", port))
    return made


@asynccontextmanager
async def counting(spaces: Namespaces, name: str, port: int) -> AsyncIterator[list[int]]:
    """A server that takes all that comes. Gives the octets of each connection that has ended."""
    counts: list[int] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        octets = 0
        while chunk := await reader.read(1 << 20):
            octets += len(chunk)
        counts.append(octets)
        writer.close()

    server = await asyncio.start_server(take, sock=await spaces.inside(name, lambda: _listen(port)))
    try:
        yield counts
    finally:
        server.close()


@dataclass
class Frames:
    """Ethernet frames as they were seen on one interface, in both directions."""

    seen: list[bytes] = field(default_factory=list)

    def of(self, ethertype: int) -> list[bytes]:
        return [frame for frame in self.seen if int.from_bytes(frame[12:14], "big") == ethertype]

    def sources(self) -> set[str]:
        """MAC addresses."""
        return {frame[6:12].hex(":") for frame in self.seen}

    def ip_sources(self) -> set[str]:
        """But of what bridges say to each other (IGMP, RFC 4286)."""
        return {str(IPv4Address(frame[26:30])) for frame in self.of(0x0800) if frame[23] != socket.IPPROTO_IGMP}

    def arp_senders(self) -> set[str]:
        return {str(IPv4Address(frame[28:32])) for frame in self.of(0x0806)}

    def arp_targets(self) -> set[str]:
        return {str(IPv4Address(frame[38:42])) for frame in self.of(0x0806)}


@asynccontextmanager
async def watching(spaces: Namespaces, namespace: Path, device: str) -> AsyncIterator[Frames]:
    def make() -> socket.socket:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(0x0003))
        made.bind((device, 0x0003))
        # Also what a bridge passes on and is not for itself (PACKET_MR_PROMISC, packet(7)).
        everything = struct.pack("iHH8s", socket.if_nametoindex(device), 1, 0, b"")
        made.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, everything)
        return made

    raw = await spaces.inside(namespace.name, make)
    frames = Frames()
    loop = asyncio.get_running_loop()

    def read_all() -> None:
        with suppress(BlockingIOError):
            while True:
                frames.seen.append(raw.recv(65_536))

    loop.add_reader(raw.fileno(), read_all)
    try:
        yield frames
    finally:
        loop.remove_reader(raw.fileno())
        read_all()
        raw.close()
