"""The names on the bus: subjects, streams, consumers. Pure; the one place that spells them.

Every name begins with the cell, so that cells (and tests) share a server without meeting.
A token is one level of a subject; it must not hold what NATS gives a meaning: dots, wildcards, white space
(https://docs.nats.io/nats-concepts/subjects).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from uuid import UUID

_TOKEN = re.compile(r"[A-Za-z0-9_-]+")
_CONSUMER_SEPARATOR = "--"


def token(text: str | UUID) -> str:
    """`text` as one level of a subject; ValueError when it is not fit to be one."""
    word = str(text)
    if not _TOKEN.fullmatch(word):
        raise ValueError(f"not fit for a level of a subject (letters, digits, '-' and '_' only): {word!r}")
    return word


def consumer_name(host: str, agent: str) -> str:
    """The durable consumer on COMMANDS from which one agent of one host pulls."""
    return f"{token(host)}{_CONSUMER_SEPARATOR}{token(agent)}"


def parse_consumer_name(name: str) -> tuple[str, str]:
    """`<host>--<agent>` → (host, agent); ValueError for another form. A host's name may hold `--`."""
    host, separator, agent = name.rpartition(_CONSUMER_SEPARATOR)
    if not (host and separator and agent):
        raise ValueError(f"not the name of an agent's consumer: {name!r}")
    return token(host), token(agent)


@dataclass(frozen=True, slots=True)
class EventSubject:
    aggregate_type: str
    aggregate_id: str
    name: str


@dataclass(frozen=True, slots=True)
class CommandSubject:
    host: str
    agent: str
    verb: str
    object_id: str


@dataclass(frozen=True, slots=True)
class ReportSubject:
    host: str
    agent: str
    fact: str
    object_id: str


@dataclass(frozen=True, slots=True)
class HeartbeatSubject:
    host: str
    agent: str


@dataclass(frozen=True, slots=True)
class ServiceHeartbeatSubject:
    service: str
    replica: str


@dataclass(frozen=True, slots=True)
class ProgressSubject:
    host: str
    agent: str
    object_id: str


class Subjects:
    """The names of one cell. `parse_*` are the inverses; ValueError for a subject of another kind or cell."""

    def __init__(self, cell: str) -> None:
        self.cell = token(cell)
        self.events_stream = f"{cell}-EVENTS"
        self.commands_stream = f"{cell}-COMMANDS"
        self.reports_stream = f"{cell}-REPORTS"
        self.dead_letters_stream = f"{cell}-DEADLETTERS"
        self.all_events = f"{cell}.events.>"
        self.all_commands = f"{cell}.commands.>"
        self.all_reports = f"{cell}.reports.>"
        self.all_dead_letters = f"{cell}.deadletter.>"
        self.all_heartbeats = f"{cell}.heartbeats.>"
        self.all_service_heartbeats = f"{cell}.service-heartbeats.>"
        self.all_progress = f"{cell}.progress.>"

    def events(self, aggregate_type: str, aggregate_id: str | UUID, name: str) -> str:
        return self._join("events", aggregate_type, aggregate_id, name)

    def commands(self, host: str, agent: str, verb: str, object_id: str | UUID) -> str:
        return self._join("commands", host, agent, verb, object_id)

    def commands_for(self, host: str, agent: str) -> str:
        """The filter of one agent's consumer."""
        return self._join("commands", host, agent) + ".>"

    def reports(self, host: str, agent: str, fact: str, object_id: str | UUID) -> str:
        return self._join("reports", host, agent, fact, object_id)

    def reports_of(self, fact: str) -> str:
        """The filter of a consumer that takes one kind of fact, from every host."""
        return f"{self.cell}.reports.*.*.{token(fact)}.>"

    def heartbeats(self, host: str, agent: str) -> str:
        return self._join("heartbeats", host, agent)

    def service_heartbeats(self, service: str, replica: str) -> str:
        return self._join("service-heartbeats", service, replica)

    def progress(self, host: str, agent: str, object_id: str | UUID) -> str:
        return self._join("progress", host, agent, object_id)

    def dead_letters(self, consumer: str, stream: str) -> str:
        """Where a consumer's poison goes. The consumer comes first: an agent may publish below its own name."""
        return self._join("deadletter", consumer, stream)

    def parse_events(self, subject: str) -> EventSubject:
        return EventSubject(*self._split(subject, "events", 3))

    def parse_commands(self, subject: str) -> CommandSubject:
        return CommandSubject(*self._split(subject, "commands", 4))

    def parse_reports(self, subject: str) -> ReportSubject:
        return ReportSubject(*self._split(subject, "reports", 4))

    def parse_heartbeats(self, subject: str) -> HeartbeatSubject:
        return HeartbeatSubject(*self._split(subject, "heartbeats", 2))

    def parse_service_heartbeats(self, subject: str) -> ServiceHeartbeatSubject:
        return ServiceHeartbeatSubject(*self._split(subject, "service-heartbeats", 2))

    def parse_progress(self, subject: str) -> ProgressSubject:
        return ProgressSubject(*self._split(subject, "progress", 3))

    def _join(self, kind: str, *levels: str | UUID) -> str:
        return ".".join((self.cell, kind, *map(token, levels)))

    def _split(self, subject: str, kind: str, count: int) -> list[str]:
        cell, *levels = subject.split(".")
        if cell != self.cell or len(levels) != count + 1 or levels[0] != kind:
            raise ValueError(f"not a subject of {kind} in cell {self.cell}: {subject!r}")
        return [token(level) for level in levels[1:]]
