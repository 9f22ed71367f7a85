"""An agent's life: desired state, commands, reports, heartbeats, inventory.

    link = await AgentLink.open(identity, "compute", settings)
    lifetime.on_stop(link.close)
    runtime = AgentRuntime(link, handlers=[DomainHandler(driver, link.conductor)], inventory=driver.inventory)
    lifetime.start(runtime.run(), "agent")

Stopping it, gracefully or by kill -9, touches nothing on the host.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any

import structlog

from cirra.agent.v1.desired_pb2 import DesiredObject, FaultsObserved, InventoryObserved
from core import telemetry
from core.agent.handler import DerivedHandler, Handler
from core.agent.link import AgentLink
from core.agent.objects import HostObserveOnly, Objects
from core.agent.questions import Reader, answer
from core.agent.reconcile import Reconciler
from core.agent.reporter import CORRELATION_HEADER
from core.agent.state_folder import StateFolder
from core.bus import PullLoop, Received, consumer_name
from core.errors import CirraError, Poison
from core.liveness import HeartbeatPublisher, installed_version

_log = structlog.get_logger(__name__)
_INVENTORY_REPEAT_S = 60.0

Background = Callable[[], Coroutine[Any, Any, None]]
InventorySource = Callable[[], Awaitable[InventoryObserved]]


class AgentRuntime:
    """Runs one agent of one host.

    *handlers*: one per kind of object. *readers*: verb → what answers its questions. *inventory* tells what the host
    has. *background*: the agent's own loops (name → function), which run as long as the agent does; one that ends takes
    the agent down. *state*: when that folder comes back, everything is reconciled at once.
    """

    def __init__(
        self,
        link: AgentLink,
        *,
        handlers: Iterable[Handler | DerivedHandler] = (),
        readers: Mapping[str, Reader] | None = None,
        inventory: InventorySource | None = None,
        background: Mapping[str, Background] | None = None,
        state: StateFolder | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._link = link
        self._monotonic = monotonic
        self._readers = dict(readers or {})
        self._inventory = inventory
        self._background = dict(background or {})
        if state is not None:
            self._background["state folder"] = functools.partial(
                state.watch, self._state_folder_changed, interval_s=link.settings.state_folder_interval_s
            )
        self._objects = Objects(
            link.agent,
            handlers,
            link.store,
            link.reporter,
            link.faults,
            concurrency=link.settings.concurrency,
            unbuilt_grace_s=link.settings.unbuilt_grace_s,
        )
        self._reconciler = Reconciler(link, self._objects, monotonic=monotonic)
        self._inventory_due = asyncio.Event()

    def nudge(self) -> None:
        """Reconcile everything soon."""
        self._reconciler.nudge()

    def inventory_changed(self) -> None:
        """Look at the inventory now."""
        self._inventory_due.set()

    def _state_folder_changed(self) -> None:
        self.nudge()
        self.inventory_changed()

    async def wait_fresh(self) -> None:
        """Returns once the desired state was heard since the host booted: from then on commands are handled."""
        await self._reconciler.fresh.wait()

    async def run(self) -> None:
        """For ever. Raises what ended one of the loops."""
        loops: dict[str, Background] = {
            "heartbeat": self._beat,
            "reconcile": self._reconciler.run,
            "commands": self._take_commands,
            "inventory": self._watch_inventory,
            "faults": self._tell_faults,
            **self._background,
        }
        async with asyncio.TaskGroup() as group:
            for name, loop in loops.items():
                group.create_task(_for_ever(name, loop), name=f"{self._link.agent} {name}")

    async def _beat(self) -> None:
        # A host that takes no commands yet is not up.
        await self.wait_fresh()
        publisher = HeartbeatPublisher.for_agent(
            self._link.bus,
            host=self._link.host,
            agent=self._link.agent,
            boot_id=self._link.boot_id,
            interval_s=self._link.settings.heartbeat_interval_s,
            version=installed_version(),
        )
        await publisher.run()

    async def _take_commands(self) -> None:
        # A host that has booted starts no guest on the word of a command from before its fall.
        await self.wait_fresh()
        # In no order of its own: `Objects` has one at a time for an object, and knows what is under way already.
        loop = PullLoop(
            self._link.bus,
            self._link.bus.subjects.commands_stream,
            consumer_name(self._link.host, self._link.agent),
            self._on_command,
            concurrency=self._link.settings.concurrency,
        )
        await loop.run()

    async def _on_command(self, received: Received) -> None:
        """Returns once the report is stored; only then is the command acknowledged."""
        reader = self._readers.get(self._link.bus.subjects.parse_commands(received.subject).verb)
        if reader is not None:
            await answer(self._link.bus, self._link.host, self._link.agent, reader, received)
            return
        desired = received.decode(DesiredObject)
        self._check_address(desired, received)
        with telemetry.correlated(received.headers.get(CORRELATION_HEADER, "")):
            try:
                await self._objects.apply(desired, "command")
            except HostObserveOnly:
                self._reconciler.nudge()  # it may have been accepted just now; the command comes again
                raise

    def _check_address(self, desired: DesiredObject, received: Received) -> None:
        subject = self._link.bus.subjects.parse_commands(received.subject)
        if (desired.host, desired.agent) != (self._link.host, self._link.agent):
            raise Poison(f"{received.subject}: the payload is for {desired.agent}@{desired.host}")
        if subject.object_id != desired.object_id:
            raise Poison(f"{received.subject}: the payload is about {desired.object_id}")

    async def _tell_faults(self) -> None:
        if not self._objects.derived_handlers:
            await asyncio.Event().wait()
        await self.wait_fresh()

        async def report(seen: FaultsObserved) -> None:
            await self._link.reporter.report("faults", self._link.host, seen, generation=0)

        await self._link.faults.tell(report, first_after_s=self._link.settings.faults_after_s)

    async def _watch_inventory(self) -> None:
        if self._inventory is None:
            await asyncio.Event().wait()
            return
        repeat_at = 0.0
        while True:
            force = self._monotonic() >= repeat_at
            if await self._report_inventory(self._inventory, force=force) and force:
                repeat_at = self._monotonic() + _INVENTORY_REPEAT_S
            try:
                async with asyncio.timeout(self._link.settings.inventory_interval_s):
                    await self._inventory_due.wait()
            except TimeoutError:
                continue
            self._inventory_due.clear()

    async def _report_inventory(self, source: InventorySource, *, force: bool) -> bool:
        try:
            inventory = await source()
        except CirraError as error:
            _log.warning("no inventory", reason=error.reason, error=error.message)
            return False
        return await self._link.reporter.report("inventory", self._link.host, inventory, generation=0, force=force)


async def _for_ever(name: str, loop: Background) -> None:
    await loop()
    raise RuntimeError(f"{name} ended, which it must not")
