"""Waiting until a projection has reached a position, on whichever replica the active projector runs.

NOTIFY tells of each checkpoint; a slow poll backs it, and a quick one stands in while nobody listens.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

import asyncpg
import structlog

from core.bus.metrics import PROJECTION_POSITION
from core.eventlog.connections import backoff, is_transient
from core.projection.checkpoints import Checkpoints
from core.projection.errors import ProjectionHalted
from core.projection.hurry import Hurry

_log = structlog.get_logger(__name__)

_POLL_S = 1.0
_POLL_WITHOUT_LISTENING_S = 0.05
# How long nothing is asked of Postgres while it tells of each checkpoint by itself.
_TOLD_WITHIN_S = 0.5
_WANTED = " wanted"
_OWN = 1000

Waiter = tuple[int, asyncio.Future[None]]


class CheckpointWatcher:
    """`run` once per replica; `wait_for` works without it as well, by polling."""

    def __init__(self, pool: asyncpg.Pool, checkpoints: Checkpoints, hurry: Hurry) -> None:
        self._pool = pool
        self._checkpoints = checkpoints
        self._hurry = hurry
        # The active projector is here.
        self.leads = False
        # Checkpoints that this replica has set, whose notifications are on their way.
        self._own: deque[int] = deque(maxlen=_OWN)
        self._position = 0
        # The last event's, or one before it: Postgres tells positions alone.
        self._epoch = 0
        self._listening = False
        self._waiters: set[Waiter] = set()

    @property
    def position(self) -> int:
        """The checkpoint as far as it is known here."""
        return self._position

    async def run(self) -> None:
        """Listens for ever, on one connection of the pool."""
        pauses = backoff()
        while True:
            try:
                await self._listen()
                pauses = backoff()
            except Exception as error:
                if not is_transient(error):
                    raise
                _log.warning("projection.not_listening", projection=self._checkpoints.name, error=repr(error))
            await asyncio.sleep(next(pauses))

    async def wait_for(self, position: int, timeout_s: float, *, epoch: int = 0, asks: bool = False) -> bool:
        """True once the checkpoint is at `position` or beyond, at an event of `epoch` or after it; False when it is not
        in time.

        `asks`: the active projector may gather events, and is to make haste. Raises ProjectionHalted when it can't get
        there because the projection has halted.
        """
        if self._has(position, epoch):
            return True
        if asks:
            await self._ask(position)
        deadline = time.monotonic() + timeout_s
        told = self._listening and self._position < position
        while not self._has(position, epoch):
            waiter: Waiter = (position, asyncio.get_running_loop().create_future())
            self._waiters.add(waiter)
            try:
                if told:
                    told = False
                    await asyncio.wait({waiter[1]}, timeout=min(_TOLD_WITHIN_S, timeout_s))
                    continue
                if await self._poll(position, epoch):
                    return True
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return False
                poll_s = _POLL_S if self._listening else _POLL_WITHOUT_LISTENING_S
                await asyncio.wait({waiter[1]}, timeout=min(poll_s, remaining))
            finally:
                self._waiters.discard(waiter)
        return True

    def _has(self, position: int, epoch: int) -> bool:
        return self._position >= position and (self._epoch >= epoch or position == 0)

    def reached(self, position: int, epoch: int) -> None:
        """This replica has set the checkpoint: who waits here need not wait for Postgres to tell."""
        self._own.append(position)
        self._announce(position, epoch)

    async def _ask(self, position: int) -> None:
        """Tells the active projector, wherever it is, that somebody waits: a hint, as it gathers for a moment only."""
        self._hurry.want(position)
        if self.leads:
            return
        try:
            await self._pool.execute(
                "SELECT pg_notify($1, $2)", self._checkpoints.channel, f"{self._checkpoints.name}{_WANTED} {position}"
            )
        except Exception as error:
            if not is_transient(error):
                raise
            _log.info("projection.not_asked", projection=self._checkpoints.name, error=repr(error))

    async def _poll(self, position: int, epoch: int) -> bool:
        try:
            state = await self._checkpoints.load(self._pool)
        except Exception as error:
            if not is_transient(error):
                raise
            return False
        if state is None:
            return False
        self._position, self._epoch = state.position, state.epoch
        if self._has(position, epoch):
            return True
        if state.halted_at is not None and (state.halted_at <= position or state.epoch < epoch):
            raise ProjectionHalted(state.name, state.halted_at, state.position, state.error)
        return False

    async def _listen(self) -> None:
        async with self._pool.acquire() as connection:
            ended = asyncio.Event()

            def on_end(_: object) -> None:
                ended.set()

            connection.add_termination_listener(on_end)
            try:
                await connection.add_listener(self._checkpoints.channel, self._on_notification)
                self._listening = True
                self._wake_all()  # they looked before we listened
                await ended.wait()
            finally:
                self._listening = False
                if not connection.is_closed():
                    connection.remove_termination_listener(on_end)
                    await connection.remove_listener(self._checkpoints.channel, self._on_notification)

    def _on_notification(self, connection: object, pid: int, channel: str, payload: object) -> None:
        name, _, position = str(payload).rpartition(" ")
        if not position.isdigit():
            return
        if name == f"{self._checkpoints.name}{_WANTED}":
            self._hurry.want(int(position))
        elif name == self._checkpoints.name:
            self._hear(int(position))

    def _hear(self, position: int) -> None:
        """Of a checkpoint, or of a halt or a reset at one. Those that this replica has set itself are known."""
        while self._own and self._own[0] < position:
            self._own.popleft()  # lost on the way
        if self._own and self._own[0] == position:
            self._own.popleft()
        else:
            self._announce(position)

    def _announce(self, position: int, epoch: int = 0) -> None:
        """Wakes those who waited for it. News without progress (a halt, a reset) makes all look for themselves."""
        progress = position > self._position
        self._position = position
        self._epoch = max(epoch, self._epoch) if progress else epoch
        PROJECTION_POSITION.labels(self._checkpoints.name).set(position)
        if not progress:
            self._wake_all()
            return
        for wanted, future in self._waiters:
            if wanted <= position and not future.done():
                future.set_result(None)

    def _wake_all(self) -> None:
        for _, future in self._waiters:
            if not future.done():
                future.set_result(None)
