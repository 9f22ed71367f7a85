"""Simulated guests: `_guests FILE` reads what they are, says that they stand ready, and boots them at the word.

A process of its own, since it shares the cores with what is measured: sockets are made and bound before the word, there
is no task and no framework, and answers are looked at when all have been given. Each request goes over a connection of
its own, from its guest's address in its network's namespace; all guests begin at once, and each asks one path after
the other. A request lasts from the first packet of its connection until the other side has closed it.

FILE: a `Storm` as JSON. Output: a line when ready; after a line of input, a `Result` as JSON.
"""

from __future__ import annotations

import ctypes
import json
import resource
import select
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

_CLONE_NEWNET = 0x4000_0000
_READ_OCTETS = 131_072


@dataclass(frozen=True, slots=True)
class Guest:
    """`namespace`: a path. `expected`: path → a text that its answer must hold."""

    namespace: str
    address: str
    expected: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Storm:
    """`server`: an IPv4 address, asked at port 80."""

    server: str
    paths: Sequence[str]
    guests: Sequence[Guest]

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Storm:
        found = json.loads(path.read_text())
        return cls(found["server"], found["paths"], [Guest(**guest) for guest in found["guests"]])


@dataclass(frozen=True, slots=True)
class Result:
    """Milliseconds: of each request, of each guest until it had everything, and of the CPU of this process."""

    requests: Sequence[float]
    guests: Sequence[float]
    cpu_ms: float


@dataclass(slots=True)
class _Asking:
    """One guest's way through the paths: its sockets, the last first, and what came back so far."""

    guest: Guest
    sockets: list[socket.socket]
    began: float = 0.0
    asked: float = 0.0
    answers: list[bytes] = field(default_factory=list)
    received: bytearray = field(default_factory=bytearray)


class _Storm:
    def __init__(self, storm: Storm) -> None:
        self._storm = storm
        self._requests = [
            f"GET {path} HTTP/1.1\r\nHost: {storm.server}\r\nConnection: close\r\n\r\n".encode() for path in storm.paths
        ]
        self._poll = select.epoll()
        self._by_descriptor: dict[int, _Asking] = {}
        self._asking = [_Asking(guest, []) for guest in storm.guests]
        for namespace in sorted({guest.namespace for guest in storm.guests}):
            _enter(namespace)
            for each in self._asking:
                if each.guest.namespace == namespace:
                    each.sockets = [_socket_of(each.guest.address) for _ in storm.paths]
        self.requests: list[float] = []
        self.guests: list[float] = []

    def run(self) -> Result:
        used = time.process_time()
        for each in self._asking:
            each.began = time.perf_counter()
            self._ask(each)
        while self._by_descriptor:
            for descriptor, _ in self._poll.poll():
                self._read(descriptor)
        cpu_ms = (time.process_time() - used) * 1000
        self._check()
        return Result(self.requests, self.guests, cpu_ms)

    def _ask(self, asking: _Asking) -> None:
        connection = asking.sockets[-1]
        asking.asked = time.perf_counter()
        # The other side's kernel accepts on this machine before it returns.
        connection.connect((self._storm.server, 80))
        connection.send(self._requests[len(asking.answers)])
        connection.setblocking(False)
        self._by_descriptor[connection.fileno()] = asking
        self._poll.register(connection.fileno(), select.EPOLLIN)

    def _read(self, descriptor: int) -> None:
        asking = self._by_descriptor[descriptor]
        connection = asking.sockets[-1]
        try:
            while data := connection.recv(_READ_OCTETS):
                asking.received += data
        except BlockingIOError:
            return
        now = time.perf_counter()
        self.requests.append((now - asking.asked) * 1000)
        del self._by_descriptor[descriptor]
        asking.sockets.pop().close()
        asking.answers.append(bytes(asking.received))
        asking.received.clear()
        if asking.sockets:
            self._ask(asking)
        else:
            self.guests.append((now - asking.began) * 1000)

    def _check(self) -> None:
        for asking in self._asking:
            for path, answer in zip(self._storm.paths, asking.answers, strict=True):
                assert answer.startswith(b"HTTP/1.1 200 "), (path, answer[:200])
                assert asking.guest.expected.get(path, "").encode() in answer, (path, answer[:2000])


def _socket_of(address: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.bind((address, 0))
    return made


def _enter(namespace: str) -> None:
    """For good: guests are no part of the host's network."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(namespace, "rb") as opened:
        if libc.setns(opened.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns: {namespace}")


def main() -> None:
    storm = Storm.read(Path(sys.argv[1]))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    prepared = _Storm(storm)
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(asdict(prepared.run())), flush=True)


if __name__ == "__main__":
    main()
