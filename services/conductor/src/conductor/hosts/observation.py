"""What a host said of an object, and which of its sayings are news: pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from google.protobuf.message import Message

from cirra.agent.v1 import desired_pb2 as agent

F = TypeVar("F", bound=Message)


@dataclass(frozen=True, slots=True)
class Observation(Generic[F]):
    """The facts after a host acted on `generation`; `failure.reason` is empty when it made it so. `effort`: how long
    that took; it makes no difference."""

    generation: int
    facts: F
    failure: agent.Failure
    effort: agent.Effort = field(default_factory=agent.Effort, compare=False)

    @property
    def failed(self) -> bool:
        return bool(self.failure.reason)


@dataclass(frozen=True, slots=True)
class ReportClock:
    """Orders the reports about one object: by sequence within a boot of a host; a boot that is over stays over."""

    host: str = ""
    boot_id: str = ""
    sequence: int = 0
    ended_boots: tuple[str, ...] = ()

    def is_news(self, report: agent.Report) -> bool:
        """Whether the report is younger than all that were taken in."""
        if report.host != self.host:
            return True
        if report.boot_id == self.boot_id:
            return report.sequence > self.sequence
        return report.boot_id not in self.ended_boots

    def after(self, host: str, boot_id: str, sequence: int) -> ReportClock:
        """The clock once this report has been taken in."""
        if host != self.host:
            return ReportClock(host, boot_id, sequence)
        if boot_id == self.boot_id:
            return ReportClock(host, boot_id, sequence, self.ended_boots)
        return ReportClock(host, boot_id, sequence, (*self.ended_boots, self.boot_id)[-16:])
