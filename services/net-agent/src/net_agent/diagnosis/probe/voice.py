"""Speaking as a guest: frames that enter its tap as if it had sent them (tc-mirred(8), packet(7)).

What is sent on one end of a veth pair of our own is redirected by tc to the ingress of the tap. From there on nothing
tells it from the guest's: it meets the bridge, the rules against spoofing, security groups, and all beyond. Answers go
to the guest, which has asked nothing and throws them away, and on the way are seen by a packet socket on the tap.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

from pyroute2 import IPRoute

from core.ids import device_suffix
from net_agent.diagnosis.probe import bpf
from net_agent.diagnosis.probe.frames import Frame, parse
from net_agent.drivers.linux.links import alias, all_links, delete_link, disable_ipv6, get_link
from net_agent.drivers.linux.namespace import Namespaces
from net_agent.model import Port

T = TypeVar("T")
Answer = Callable[[Frame], T | None]

ROLE = "probe"
ETH_P_ALL = 0x0003
# tc handles: the qdisc clsact, and its egress hook (linux/pkt_sched.h: TC_H_CLSACT, TC_H_MIN_EGRESS).
_CLSACT_EGRESS = 0xFFFF_FFF3
_FRAME_OCTETS = 2048
# How often a question is asked, and how long an answer is waited for each time.
TRIES = 3
WAIT_S = 0.5


class Voice:
    """Asks in the guest's name; several questions at the same time. Made by `speaking_as`."""

    def __init__(self, sender: socket.socket, listener: socket.socket) -> None:
        self._sender = sender
        self._listener = listener
        self._waiting: set[_Waiting[Any]] = set()

    async def ask(self, frame: bytes, answer: Answer[T], *, tries: int = TRIES, wait_s: float = WAIT_S) -> T | None:
        """Sends it until a frame comes of which *answer* makes something; None: none came."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(answer, loop.create_future())
        self._waiting.add(waiting)
        try:
            for _ in range(tries):
                await loop.sock_sendall(self._sender, frame)
                await asyncio.wait([waiting.found], timeout=wait_s)
                if waiting.found.done():
                    return waiting.found.result()
            return None
        finally:
            self._waiting.discard(waiting)

    def heard(self) -> None:
        """Takes in what has come."""
        while True:
            try:
                frame = parse(self._listener.recv(_FRAME_OCTETS))
            except BlockingIOError:
                return
            except OSError:
                # The tap is gone, or down (packet(7): ENETDOWN): nothing comes any more.
                return
            if frame is not None:
                for waiting in tuple(self._waiting):
                    waiting.heard(frame)


class _Waiting(Generic[T]):
    def __init__(self, answer: Answer[T], found: asyncio.Future[T]) -> None:
        self._answer = answer
        self.found = found

    def heard(self, frame: Frame) -> None:
        if not self.found.done() and (made := self._answer(frame)) is not None:
            self.found.set_result(made)


@asynccontextmanager
async def speaking_as(namespaces: Namespaces, port: Port) -> AsyncIterator[Voice | None]:
    """A voice as long as the block lasts; None: there is no tap, or it is down, so that nothing can be said."""
    opened = await namespaces.on_host(lambda: _open(port))
    if opened is None:
        yield None
        return
    sender, listener = opened
    voice, loop = Voice(sender, listener), asyncio.get_running_loop()
    loop.add_reader(listener, voice.heard)
    try:
        yield voice
    finally:
        loop.remove_reader(listener)
        sender.close()
        listener.close()
        await asyncio.shield(namespaces.on_host(lambda: _remove(port)))


def devices(port_id: str) -> tuple[str, str]:
    """Where frames are put in, and its other end."""
    suffix = device_suffix(port_id)
    return f"prb{suffix}", f"pre{suffix}"


def remove_leftovers() -> None:
    """What an agent that was killed while it spoke has left. Runs in the host's namespace."""
    with IPRoute() as ip:
        for link in all_links(ip):
            if link.alias.startswith(alias(ROLE, "")):
                delete_link(ip, link)


def _open(port: Port) -> tuple[socket.socket, socket.socket] | None:
    """The two sockets stay in the namespace that they were made in."""
    with IPRoute() as ip:
        tap = get_link(ip, port.device)
        if tap is None or not tap.up:
            return None
        _make_pair(ip, port, tap.index)
    sender = _packet_socket(devices(port.port_id)[0], 0)
    try:
        listener = _packet_socket(port.device, ETH_P_ALL)
        bpf.attach(listener)
    except OSError:
        sender.close()
        raise
    return sender, listener


def _make_pair(ip: IPRoute, port: Port, tap: int) -> None:
    """Neither end has addresses or IPv6, so that nothing but our frames ever leaves by them."""
    names = devices(port.port_id)
    _remove_pair(ip, port)
    ip.link("add", ifname=names[0], kind="veth", peer={"ifname": names[1]})
    for name in names:
        link = get_link(ip, name)
        assert link is not None, f"{name} vanished while it was made"
        disable_ipv6(name)
        ip.link("set", index=link.index, ifalias=alias(ROLE, port.port_id))
        if name == names[0]:
            ip.tc("add", "clsact", link.index)
            redirect = {"kind": "mirred", "direction": "ingress", "action": "redirect", "ifindex": tap}
            ip.tc(
                "add-filter",
                "u32",
                link.index,
                parent=_CLSACT_EGRESS,
                prio=1,
                protocol=ETH_P_ALL,
                target=0x1_0000,
                keys=["0x0/0x0+0"],
                action=[redirect],
            )
        ip.link("set", index=link.index, state="up")


def _packet_socket(device: str, protocol: int) -> socket.socket:
    """protocol 0: for sending only."""
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
    try:
        opened.bind((device, protocol))
    except OSError:
        opened.close()
        raise
    return opened


def _remove(port: Port) -> None:
    with IPRoute() as ip:
        _remove_pair(ip, port)


def _remove_pair(ip: IPRoute, port: Port) -> None:
    """One end takes the other with it. Absent is success."""
    link = get_link(ip, devices(port.port_id)[0])
    if link is not None:
        delete_link(ip, link)
