"""What the embedded servers share: start, readiness, stop, and what chaos tests do to them."""

from __future__ import annotations

import asyncio
import secrets
import signal
import socket
from abc import ABC, abstractmethod
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self

from core.embedded.process import ServerProcess
from core.errors import CirraError

LOOPBACK = "127.0.0.1"
_READY_POLL_S = 0.01
_PORT_ATTEMPTS = 3
_FIRST_PORT = 16_384
_PORT_LOOKS = 100
_LOG_TAIL_LINES = 20


class ServerFailed(CirraError):
    """An embedded server ended, or did not become ready in time; the message ends with its last log lines."""

    reason = "EMBEDDED_SERVER_FAILED"


class EmbeddedServer(ABC):
    """A server under *folder* (data, log, port): an async context manager, usable from any event loop.

    The port is chosen once and kept in ``folder/port``, so that clients find the server again after a
    restart. A server of the same folder that is already running (its starter was killed) is adopted, not
    started twice. With *detached* the server outlives this process; without, the kernel ends it with the
    starting thread.
    """

    name: str
    stop_signal: signal.Signals
    stop_grace_s = 10.0

    def __init__(
        self, folder: Path, detached: bool = False, ready_timeout_s: float = 30.0, address: str = LOOPBACK
    ) -> None:
        self.folder = folder.absolute()
        self.address = address
        self.detached = detached
        self.log = self.folder / f"{self.name}.log"
        self._ready_timeout_s = ready_timeout_s
        self._process: ServerProcess | None = None

    @abstractmethod
    async def _prepare(self) -> None:
        """Make what the server needs on disk: data folder, configuration."""

    @abstractmethod
    def _command(self) -> list[str]:
        """The command line that runs the server in the foreground."""

    @abstractmethod
    async def _is_ready(self, pid: int) -> bool:
        """Whether the server, whose process id is *pid*, takes requests now."""

    @abstractmethod
    def _running_pid(self) -> int | None:
        """The process id of a server that already runs on this folder, if there is one."""

    @property
    def port(self) -> int:
        """The TCP port on `address`; chosen at the first start."""
        return int((self.folder / "port").read_text())

    @property
    def pid(self) -> int:
        return self._running().pid

    async def start(self) -> None:
        """Start the server, or adopt a running one, and wait until it is ready. Raises ServerFailed."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.adopt():
            return await self._wait_ready()
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self._choose_port()
            await self._prepare()
            self._process = ServerProcess.spawn(self._command(), self.log, self.detached)
            try:
                return await self._wait_ready()
            except ServerFailed:
                # Somebody may have taken the port between our look and the server's.
                if attempt == _PORT_ATTEMPTS or port_is_free(self.address, self.port):
                    raise

    def adopt(self) -> bool:
        """Take over a server that runs on this folder already, so that it can be stopped; False: there is none."""
        pid = self._running_pid()
        if pid is not None:
            self._process = ServerProcess.adopt(pid)
        return pid is not None

    async def stop(self) -> None:
        """Stop cleanly, or kill a server that does not obey in ``stop_grace_s``. Nothing if it has ended."""
        if self._process is not None:
            await self._process.stop(self.stop_signal, self.stop_grace_s)
            self._process = None

    async def kill(self) -> None:
        """SIGKILL to the server and its descendants, as the kernel's OOM killer would."""
        await self._running().kill()
        self._process = None

    async def restart(self) -> None:
        """Stop cleanly and start again on the same port, with the same data."""
        await self.stop()
        await self.start()

    def pause(self) -> None:
        """Freeze the server and its descendants (SIGSTOP): connections stay open and nothing answers."""
        self._running().freeze()

    def resume(self) -> None:
        """End a ``pause``."""
        self._running().thaw()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _running(self) -> ServerProcess:
        if self._process is None or self._process.has_exited():
            raise ServerFailed(f"{self.name} in {self.folder} is not running")
        return self._process

    async def _wait_ready(self) -> None:
        process = self._running()
        try:
            async with asyncio.timeout(self._ready_timeout_s):
                while not await self._is_ready(process.pid):
                    if process.has_exited():
                        raise ServerFailed(f"{self.name} ended at its start:\n{self._log_tail()}")
                    await asyncio.sleep(_READY_POLL_S)
        except TimeoutError as error:
            await process.kill()
            message = f"{self.name} was not ready in {self._ready_timeout_s:g} s:\n{self._log_tail()}"
            raise ServerFailed(message) from error

    def _choose_port(self) -> None:
        recorded = self.folder / "port"
        if not (recorded.exists() and port_is_free(self.address, int(recorded.read_text()))):
            recorded.write_text(str(free_port(self.address)))

    def _log_tail(self) -> str:
        with self.log.open(errors="replace") as lines:
            return "".join(deque(lines, maxlen=_LOG_TAIL_LINES))


def free_port(address: str = LOOPBACK) -> int:
    """A TCP port on *address*, one of this machine's, that nobody listens on at this moment.

    Not one of those that the kernel gives out by itself (ip_local_port_range, ip(7)): while a server is away for a
    moment, nobody is given its port by chance.
    """
    first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = range(_FIRST_PORT, first_ephemeral if first_ephemeral > 2 * _FIRST_PORT - 1 else 65_536)
    for _ in range(_PORT_LOOKS):
        port = secrets.choice(ports)
        if port_is_free(address, port):
            return port
    raise ServerFailed(f"no free port was found on {address} from {ports.start} to {ports.stop - 1}")


def port_is_free(address: str, port: int) -> bool:
    """Nobody listens there at this moment."""
    with socket.socket() as probe:
        # As the servers do: connections in TIME_WAIT don't keep a port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True
