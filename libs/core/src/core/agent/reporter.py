"""What an agent says: reports on JetStream, each a claim with boot id, sequence and generation.

The sequence is the host's time since boot in nanoseconds, or one more than the last: it rises within a boot, across
restarts of the agent as well, without a file, and no clock that can be set has a part in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog
from google.protobuf.message import Message

from cirra.agent.v1.desired_pb2 import Effort, Failure, Report
from core import metrics, telemetry
from core.bus import Bus, BusUnavailable, publish_report

_log = structlog.get_logger(__name__)
CORRELATION_HEADER = "Cirra-Correlation-Id"
# The members of the oneof `facts`: "domain" → "DomainObserved", …; and the inverse.
_FACT_OF_FIELD: Mapping[str, str] = {
    field.name: field.message_type.name
    for field in Report.DESCRIPTOR.oneofs_by_name["facts"].fields
    if field.message_type is not None
}
_FIELD_OF_FACT: Mapping[str, str] = {fact: field for field, fact in _FACT_OF_FIELD.items()}


def fact_of_kind(kind: str) -> str:
    """The name of the fact about a kind of object: "domain" → "DomainObserved". Raises KeyError."""
    return _FACT_OF_FIELD[kind]


def read_boot_id(path: Path = Path("/proc/sys/kernel/random/boot_id")) -> str:
    """A UUID that is new after each boot (man 4 random)."""
    return path.read_text().strip()


def _boot_time_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class _Said:
    content: bytes
    report: Report
    at: float


class Reporter:
    """Says things about objects of one host, in the name of one agent."""

    def __init__(
        self,
        bus: Bus,
        *,
        host: str,
        agent: str,
        boot_id: str,
        generation_of: Callable[[str, str], int],
        epoch_of: Callable[[str, str], int] = lambda kind, object_id: 0,
        repeat_after_s: float = 600.0,
        boot_time_ns: Callable[[], int] = _boot_time_ns,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus = bus
        self._host = host
        self._agent = agent
        self.boot_id = boot_id
        self._generation_of = generation_of
        self._epoch_of = epoch_of
        self._repeat_after_s = repeat_after_s
        self._boot_time_ns = boot_time_ns
        self._monotonic = monotonic
        self._sequence = 0
        self._said: dict[tuple[str, str, str], _Said] = {}

    async def report(
        self,
        kind: str,
        object_id: str,
        facts: Message | None = None,
        *,
        failure: Failure | None = None,
        generation: int | None = None,
        effort: Effort | None = None,
        force: bool = False,
    ) -> bool:
        """Say *facts*, or *failure* with what facts there are. Returns once JetStream has it, after whatever time.

        *generation*: what was acted on; by default the one last acted on. What is no news is not said, unless *force*
        or some time has passed; *effort* is told, and is no news. Returns whether it was said.
        """
        fact = facts.DESCRIPTOR.name if facts is not None else fact_of_kind(kind)
        acted_on = self._generation_of(kind, object_id) if generation is None else generation
        report = Report(host=self._host, agent=self._agent, kind=kind, object_id=object_id, generation=acted_on)
        report.boot_id = self.boot_id
        report.epoch = self._epoch_of(kind, object_id)
        if facts is not None:
            getattr(report, _FIELD_OF_FACT[fact]).CopyFrom(facts)
            # An empty message of facts is told from no facts at all.
            getattr(report, _FIELD_OF_FACT[fact]).SetInParent()
        if failure is not None:
            report.failure.CopyFrom(failure)
        key = (kind, object_id, fact)
        content = report.SerializeToString(deterministic=True)
        if not force and self._is_old_news(key, content):
            return False
        if effort is not None:
            report.effort.CopyFrom(effort)
        self._stamp(report)
        # Noted before it is sent: of two reports at once, the one with the higher number is the last word.
        said = self._said[key] = _Said(content, report, self._monotonic())
        try:
            await self._publish(fact, report)
        except BaseException:
            if self._said.get(key) is said:
                del self._said[key]
            raise
        return True

    async def repeat(self, kind: str, object_id: str) -> bool:
        """Send the last report about an object again, as it was, number and all: it is news only if it was lost.

        False when nothing was said of it since this process started.
        """
        fact = fact_of_kind(kind)
        said = self._said.get((kind, object_id, fact))
        if said is None:
            return False
        await self._publish(fact, said.report)
        return True

    def forget(self, kind: str, object_id: str) -> None:
        """The object is gone for good: what was said of it need not be remembered."""
        for key in [key for key in self._said if key[:2] == (kind, object_id)]:
            del self._said[key]

    def next_sequence(self) -> int:
        self._sequence = max(self._sequence + 1, self._boot_time_ns())
        return self._sequence

    def _is_old_news(self, key: tuple[str, str, str], content: bytes) -> bool:
        said = self._said.get(key)
        if said is None or said.content != content:
            return False
        return self._monotonic() - said.at < self._repeat_after_s

    def _stamp(self, report: Report) -> None:
        report.sequence = self.next_sequence()
        report.time.FromNanoseconds(time.time_ns())

    async def _publish(self, fact: str, report: Report) -> None:
        """For as long as it takes. Raises BusRefused for what JetStream will never store."""
        correlation = telemetry.correlation_id()
        headers = {CORRELATION_HEADER: correlation} if correlation else {}
        while True:
            try:
                await publish_report(self._bus, self._host, self._agent, fact, report.object_id, report, headers)
                break
            except BusUnavailable as error:
                # That has waited already; a report is never given up.
                _log.warning("report waits for the bus", fact=fact, object_id=report.object_id, error=str(error))
        metrics.REPORTS.labels(self._agent, fact).inc()
