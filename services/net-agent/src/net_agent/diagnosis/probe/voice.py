"""Speaking as a guest, or as the outside: frames that enter a tap, or an uplink, as if they had come in by it.

Sources: tc-mirred(8), packet(7).

What is sent on one end of a veth pair of our own is redirected by tc to the ingress of the tap. From there on nothing
tells it from the guest's: it meets the bridge, the rules against spoofing, security groups, and all beyond. Answers go
to the guest, which has asked nothing and throws them away, and on the way are seen by a packet socket on the tap.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

from pyroute2 import IPRoute

from net_agent.diagnosis.probe import bpf
from net_agent.diagnosis.probe.frames import Frame, parse
from net_agent.drivers.linux.links import alias, all_links, delete_link, disable_ipv6, get_link
from net_agent.drivers.linux.namespace import Namespaces

T = TypeVar("T")
Answer = Callable[[Frame], T | None]

ROLE = "probe"
ETH_P_ALL = 0x0003
# tc handles: the qdisc clsact, and its egress hook (linux/pkt_sched.h: TC_H_CLSACT, TC_H_MIN_EGRESS).
_CLSACT_EGRESS = 0xFFFF_FFF3
FRAME_OCTETS = 2048
# How often a question is asked, and how long an answer is waited for each time.
TRIES = 3
WAIT_S = 0.5


class Voice:
    """Asks in the guest's name; several questions at the same time. Made by `speaking_at`."""

    def __init__(self, sender: socket.socket, listener: socket.socket) -> None:
        self._sender = sender
        self._listener = listener
        self._waiting: set[_Waiting[Any]] = set()
        # What was asked, in words, and the frame.
        self.asked: list[tuple[str, bytes]] = []

    async def ask(self, what: str, frame: bytes, answer: Answer[T]) -> T | None:
        """Sends it until a frame comes of which *answer* makes something; None: none came. what: "DHCPDISCOVER"."""
        loop = asyncio.get_running_loop()
        self.asked.append((what, frame))
        waiting = _Waiting(answer, loop.create_future())
        self._waiting.add(waiting)
        try:
            for _ in range(TRIES):
                await loop.sock_sendall(self._sender, frame)
                await asyncio.wait([waiting.found], timeout=WAIT_S)
                if waiting.found.done():
                    return waiting.found.result()
            return None
        finally:
            self._waiting.discard(waiting)

    def heard(self) -> None:
        """Takes in what has come."""
        while True:
            try:
                frame = parse(self._listener.recv(FRAME_OCTETS))
            except OSError:
                # Nothing more just now (EAGAIN), or the tap is gone or down (ENETDOWN).
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
async def speaking_at(namespaces: Namespaces, device: str, owner: str) -> AsyncIterator[Voice | None]:
    """A voice whose frames come in by an interface of the host, and that hears what goes out by it, as long as the
    block lasts; None: there is no such interface, or it is down, so that nothing can be said.

    owner: the id of the port that is diagnosed, in whose name nobody else speaks at this device.
    """
    names = devices(f"{owner} {device}")
    opened = await namespaces.on_host(lambda: _open(device, owner, names))
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
        await asyncio.shield(namespaces.on_host(lambda: _remove(names)))


def devices(purpose: str) -> tuple[str, str]:
    """Where frames are put in, and its other end; different ones for different purposes."""
    digest = hashlib.sha256(purpose.encode()).hexdigest()[:11]
    return f"prb{digest}", f"pre{digest}"


def remove_leftovers() -> None:
    """What an agent that was killed while it spoke has left. Runs in the host's namespace."""
    with IPRoute() as ip:
        for link in all_links(ip):
            if link.alias.startswith(alias(ROLE, "")):
                delete_link(ip, link)


def _open(device: str, owner: str, names: tuple[str, str]) -> tuple[socket.socket, socket.socket] | None:
    """The two sockets stay in the namespace that they were made in."""
    with IPRoute() as ip:
        target = get_link(ip, device)
        if target is None or not target.up:
            return None
        _make_pair(ip, names, owner, target.index)
    sender = _packet_socket(names[0], 0)
    try:
        listener = listening_socket(device)
    except OSError:
        sender.close()
        raise
    return sender, listener


def _make_pair(ip: IPRoute, names: tuple[str, str], owner: str, target: int) -> None:
    """Neither end has addresses or IPv6, so that nothing but our frames ever leaves by them."""
    _remove_pair(ip, names)
    ip.link("add", ifname=names[0], kind="veth", peer={"ifname": names[1]})
    for name in names:
        link = get_link(ip, name)
        assert link is not None, f"{name} vanished while it was made"
        disable_ipv6(name)
        ip.link("set", index=link.index, ifalias=alias(ROLE, owner))
        if name == names[0]:
            _redirect(ip, link.index, target)
        ip.link("set", index=link.index, state="up")


def _redirect(ip: IPRoute, source: int, target: int) -> None:
    """All that leaves by one interface comes in by another."""
    ip.tc("add", "clsact", source)
    ip.tc(
        "add-filter",
        "u32",
        source,
        parent=_CLSACT_EGRESS,
        prio=1,
        protocol=ETH_P_ALL,
        target=0x1_0000,
        keys=["0x0/0x0+0"],
        action=[{"kind": "mirred", "direction": "ingress", "action": "redirect", "ifindex": target}],
    )


def listening_socket(device: str) -> socket.socket:
    """Hears what comes and goes at an interface of the calling thread's namespace, as far as `bpf` lets it through.

    What goes out is heard by sockets for all protocols only. Raises OSError when there is no such interface.
    """
    listener = _packet_socket(device, ETH_P_ALL)
    try:
        bpf.attach(listener)
    except OSError:
        listener.close()
        raise
    return listener


def _packet_socket(device: str, protocol: int) -> socket.socket:
    """protocol 0: for sending only."""
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
    try:
        opened.bind((device, protocol))
    except OSError:
        opened.close()
        raise
    return opened


def _remove(names: tuple[str, str]) -> None:
    with IPRoute() as ip:
        _remove_pair(ip, names)


def _remove_pair(ip: IPRoute, names: tuple[str, str]) -> None:
    """One end takes the other with it. Absent is success."""
    link = get_link(ip, names[0])
    if link is not None:
        delete_link(ip, link)
