"""Which guests have changed, from whoever notices to the one who looks: coalesced, never lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog

from core.errors import CirraError

log = structlog.get_logger(__name__)


class Changes:
    """Belongs to one asyncio loop. `list_all` tells every instance that there is to name after a gap."""

    def __init__(self, list_all: Callable[[], Awaitable[set[str]]]) -> None:
        self._list_all = list_all
        self._pending: set[str] = set()
        self._all_pending = False
        self._noted = asyncio.Event()

    def note(self, instance_id: str) -> None:
        self._pending.add(instance_id)
        self._noted.set()

    def note_all(self) -> None:
        """There was a gap: any of them may have changed."""
        self._all_pending = True
        self._noted.set()

    async def __aiter__(self) -> AsyncIterator[str]:
        while True:
            await self._noted.wait()
            self._noted.clear()
            if self._all_pending:
                await self._name_all()
            pending, self._pending = self._pending, set()
            for instance_id in sorted(pending):
                yield instance_id

    async def _name_all(self) -> None:
        try:
            self._pending |= await self._list_all()
            self._all_pending = False
        except CirraError as error:
            # The hypervisor went away again; the next connection is the next note.
            log.warning("guests could not be listed", error=str(error))
