"""An operator says that the log was restored, where nothing else can show it: NATS was restored or lost with it."""

from __future__ import annotations

from conductor.settings import ConductorSettings
from core.bus.streams import StreamSettings
from core.errors import Conflict
from core.plane import open_plane
from core.relay.mirror import Mirror
from core.service import Bootstrap, Lifetime

CAUSE = "an operator has restored the log"


def beginning_epoch(above: int) -> Bootstrap[ConductorSettings]:
    """Begins a new epoch, higher than `above` too, prints it, and ends. The relay, where one runs, does the rest."""

    async def begin(lifetime: Lifetime, settings: ConductorSettings) -> None:
        plane = await open_plane(lifetime, "conductor", settings, beating=False)
        before = await plane.log.head()
        head = await plane.log.raise_epoch(CAUSE, expected=before.epoch, above=above, actor="operator")
        if head is None:
            raise Conflict("the epoch was raised at the same time by the relay", remedy="see `make status`")
        await Mirror(plane.log, plane.bus, StreamSettings(), refill=0).forget_commands()
        print(f"epoch {head.epoch} begins at position {head.position}", flush=True)
        lifetime.stop()

    return begin
