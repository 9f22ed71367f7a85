"""Processes that are killed or stopped, alone or with all their descendants.

    with paused(service.pid):            # SIGSTOP; SIGCONT at the end, whatever happens
        …
    await kill(*host_pids)               # SIGKILL, all at once; returns when they are gone

Processes are held by pidfd, so that a number used again never hits a stranger (pidfd_open(2)).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from core.embedded.process import ServerProcess, is_stopped
from core.testing.faults.errors import FaultFailed

_STOP_TIMEOUT_S = 5.0
_KILL_TIMEOUT_S = 10.0
_POLL_S = 0.001


class Victim:
    """A running process. `tree`: what is done to it is done to its descendants too. FaultFailed if it has ended."""

    def __init__(self, pid: int, *, tree: bool = True) -> None:
        try:
            self._process = ServerProcess.adopt(pid)
        except ProcessLookupError as error:
            raise FaultFailed(f"process {pid} has ended already") from error
        self.pid = pid
        self._tree = tree

    def pause(self) -> None:
        """SIGSTOP; returns once no thread runs any more. FaultFailed when there is none to stop."""
        self._require_alive()
        if self._tree:
            self._process.freeze()
            return
        self._process.send(signal.SIGSTOP)
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while not is_stopped(self.pid):
            if time.monotonic() > deadline:
                raise FaultFailed(f"process {self.pid} did not stop in {_STOP_TIMEOUT_S:g} s")
            time.sleep(_POLL_S)

    def resume(self) -> None:
        """SIGCONT; nothing if it has ended meanwhile."""
        if self._tree:
            self._process.thaw()
        else:
            self._process.send(signal.SIGCONT)

    async def kill(self) -> None:
        """SIGKILL; returns once it is gone, to be reaped by its parent."""
        self._require_alive()
        if self._tree:
            await self._process.kill()
        else:
            self._process.send(signal.SIGKILL)
            await self._process.wait(_KILL_TIMEOUT_S)

    def _require_alive(self) -> None:
        if self._process.has_exited():
            raise FaultFailed(f"process {self.pid} has ended already")


@contextmanager
def paused(*pids: int, tree: bool = True) -> Iterator[None]:
    """All are stopped within the block and go on after it, also when it fails, or only some could be stopped."""
    victims = [Victim(pid, tree=tree) for pid in pids]
    try:
        for victim in victims:
            victim.pause()
        yield
    finally:
        for victim in victims:
            victim.resume()


async def kill(*pids: int, tree: bool = True) -> None:
    """SIGKILL to all of them, as nearly at once as can be: none is awaited before the last has got it."""
    victims = [Victim(pid, tree=tree) for pid in pids]
    with paused(*pids, tree=tree):
        for victim in victims:
            await victim.kill()
