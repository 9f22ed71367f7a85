"""A host whose agents do at once what they are told, in memory, and fail or hesitate where a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from cirra.agent.v1 import desired_pb2 as agent
from cirra.agent.v1.diagnosis_pb2 import PathFound, PortPath
from core.agent.derived import is_derived
from core.bus import Bus, PullLoop, Received, connect, publish_report
from core.liveness import HeartbeatPublisher
from core.testing.faults.bus import redelivered
from core.testing.invariants_hosts import Contents
from core.testing.servers import Cell

AGENTS = ("compute", "net")


@dataclass
class FakeHost:
    """`domains`, `ports`, and `derived` (kind, id): what is on it. `failing`: kind → the failure that is reported
    instead of acting.

    `failing_removal`: the same of what shall be absent. `holding`, `holding_removal`: kind → an event that is
    waited for before acting. `generations`: kind and id → the newest that it was told, kept for what is gone too: an
    older wish is `refused`, as agents do. `acks_lost`: JetStream brings each command so many times more.
    `effort`: how much work it says that a guest was.
    """

    name: str
    cell: Cell
    vcpus: int = 64
    memory_mib: int = 65536
    boot_id: str = "boot-1"
    tunnel_address: str = "192.0.2.1"
    domains: dict[str, agent.DesiredObject] = field(default_factory=dict)
    ports: dict[str, agent.DesiredObject] = field(default_factory=dict)
    derived: dict[tuple[str, str], agent.DesiredObject] = field(default_factory=dict)
    failing: dict[str, agent.Failure] = field(default_factory=dict)
    failing_removal: dict[str, agent.Failure] = field(default_factory=dict)
    holding: dict[str, asyncio.Event] = field(default_factory=dict)
    holding_removal: dict[str, asyncio.Event] = field(default_factory=dict)
    # Instance → what its guest wrote; port → what a walk of its path found. `mute`: it answers no question.
    consoles: dict[str, bytes] = field(default_factory=dict)
    paths: dict[str, PathFound] = field(default_factory=dict)
    walked: list[PortPath] = field(default_factory=list)
    mute: bool = False
    told: list[agent.DesiredObject] = field(default_factory=list)
    acks_lost: int = 0
    effort: agent.Effort = field(default_factory=agent.Effort)
    generations: dict[tuple[str, str], int] = field(default_factory=dict)
    refused: int = 0
    _sequence: int = 0
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _bus: Bus | None = None

    async def start(self, register: Callable[[str], object]) -> None:
        """Enrolled, heard, and with an inventory."""
        result = register(self.name)
        assert asyncio.iscoroutine(result)
        await result
        self._bus = bus = await connect(
            self.cell.nats_url, cell=self.cell.name, name=self.name, credentials=self.cell.credentials
        )
        handler = redelivered(self._handle, self.acks_lost)
        for name in AGENTS:
            loop = PullLoop(bus, bus.subjects.commands_stream, f"{self.name}--{name}", handler)
            beat = HeartbeatPublisher.for_agent(bus, host=self.name, agent=name, boot_id=self.boot_id, interval_s=0.2)
            self._tasks += [asyncio.create_task(loop.run()), asyncio.create_task(beat.run())]
        inventory = agent.InventoryObserved(
            vcpus=self.vcpus, memory_mib=self.memory_mib, disk_gib=10_000, virt_types=["simulated"]
        )
        await self._report("compute", agent.Report(kind="host", inventory=inventory), "InventoryObserved", self.name)
        wired = agent.InventoryObserved(tunnel_address=self.tunnel_address)
        await self._report("net", agent.Report(kind="host", inventory=wired), "InventoryObserved", self.name)

    async def stop(self) -> None:
        """Falls silent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self._bus is not None:
            await self._bus.close()

    def answer_again(self) -> None:
        """Nothing is waited for any more, and what was is done."""
        for holding in (self.holding, self.holding_removal):
            for event in holding.values():
                event.set()
            holding.clear()

    async def contents(self) -> Contents:
        """What is on it, for the checker of invariants."""
        return Contents(domains=set(self.domains), ports=set(self.ports))

    async def _handle(self, received: Received) -> None:
        if ".ReadConsole." in received.subject:
            await self._tell_console(received.decode(agent.Question))
        elif ".DiagnosePath." in received.subject:
            await self._tell_path(received.decode(agent.Question))
        else:
            await self.make_so(received.decode(agent.DesiredObject))

    async def _tell_console(self, question: agent.Question) -> None:
        about = question.console
        answer = agent.Answer(console=self.consoles.get(about.instance_id, b"")[-about.max_bytes :])
        await self._answer(question, answer)

    async def _tell_path(self, question: agent.Question) -> None:
        self.walked.append(question.path)
        await self._answer(question, agent.Answer(path=self.paths.get(question.path.port_id, PathFound())))

    async def _answer(self, question: agent.Question, answer: agent.Answer) -> None:
        assert self._bus is not None
        if not self.mute:
            subject = self._bus.subjects.progress(self.name, question.agent, question.question_id)
            await self._bus.publish_progress(subject, answer)

    async def make_so(self, desired: agent.DesiredObject) -> None:
        """As a command tells, or desired state that is read on the agents' timer."""
        if is_derived(desired.kind):
            self._derive(desired)
            return
        self.told.append(desired)
        if self._is_older(desired):
            return
        report = agent.Report(kind=desired.kind, generation=desired.generation, epoch=desired.epoch)
        holding = self.holding_removal if desired.absent else self.holding
        if desired.kind in holding:
            await holding[desired.kind].wait()
        if self._is_older(desired):  # by now
            return
        failing = self.failing_removal if desired.absent else self.failing
        if desired.kind in failing:
            report.failure.CopyFrom(failing[desired.kind])
        elif desired.kind == "domain":
            report.domain.state = self._domain(desired)
            report.effort.CopyFrom(self.effort)
        else:
            self._port(desired, report.port)
        fact = "DomainObserved" if desired.kind == "domain" else "PortObserved"
        await self._report(desired.agent, report, fact, desired.object_id)

    def _derive(self, desired: agent.DesiredObject) -> None:
        """Of these nothing is reported."""
        if self._is_older(desired):
            return
        key = desired.kind, desired.object_id
        if desired.absent:
            self.derived.pop(key, None)
        else:
            self.derived[key] = desired

    def _is_older(self, desired: agent.DesiredObject) -> bool:
        key = (desired.kind, desired.object_id)
        if desired.generation < self.generations.get(key, 0):
            self.refused += 1
            return True
        self.generations[key] = desired.generation
        return False

    def _domain(self, desired: agent.DesiredObject) -> agent.DomainState.ValueType:
        if desired.absent:
            self.domains.pop(desired.object_id, None)
            return agent.DOMAIN_STATE_ABSENT
        self.domains[desired.object_id] = desired
        on = desired.domain.power == agent.DESIRED_POWER_ON
        return agent.DOMAIN_STATE_RUNNING if on else agent.DOMAIN_STATE_SHUTOFF

    def _port(self, desired: agent.DesiredObject, observed: agent.PortObserved) -> None:
        if desired.absent:
            self.ports.pop(desired.object_id, None)
            observed.absent = True
        else:
            self.ports[desired.object_id] = desired
            observed.wired = True

    async def _report(self, agent_name: str, report: agent.Report, fact: str, object_id: str) -> None:
        assert self._bus is not None
        self._sequence += 1
        report.host, report.agent, report.object_id = self.name, agent_name, object_id
        report.boot_id, report.sequence = self.boot_id, self._sequence
        await publish_report(self._bus, self.name, agent_name, fact, object_id, report)
