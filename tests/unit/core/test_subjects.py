"""The names on the bus."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.bus.subjects import (
    CommandSubject,
    EventSubject,
    HeartbeatSubject,
    ProgressSubject,
    ReportSubject,
    ServiceHeartbeatSubject,
    Subjects,
    consumer_name,
    parse_consumer_name,
)

SUBJECTS = Subjects("c1")
OBJECT = UUID("01890000-0000-7000-8000-000000000001")
TOKENS = st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True)


def test_names_are_spelled_as_documented() -> None:
    assert SUBJECTS.events("instance", OBJECT, "InstanceCreated") == f"c1.events.instance.{OBJECT}.InstanceCreated"
    assert SUBJECTS.commands("h1", "compute", "EnsureDomain", OBJECT) == f"c1.commands.h1.compute.EnsureDomain.{OBJECT}"
    assert SUBJECTS.reports("h1", "net", "PortObserved", OBJECT) == f"c1.reports.h1.net.PortObserved.{OBJECT}"
    assert SUBJECTS.heartbeats("h1", "net") == "c1.heartbeats.h1.net"
    assert SUBJECTS.service_heartbeats("conductor", "r1") == "c1.service-heartbeats.conductor.r1"
    assert SUBJECTS.progress("h1", "compute", OBJECT) == f"c1.progress.h1.compute.{OBJECT}"
    assert SUBJECTS.dead_letters("h1--net", "c1-COMMANDS") == "c1.deadletter.h1--net.c1-COMMANDS"
    assert SUBJECTS.commands_for("h1", "net") == "c1.commands.h1.net.>"
    assert SUBJECTS.reports_of("PortObserved") == "c1.reports.*.*.PortObserved.>"
    assert (SUBJECTS.events_stream, SUBJECTS.commands_stream, SUBJECTS.reports_stream) == (
        "c1-EVENTS",
        "c1-COMMANDS",
        "c1-REPORTS",
    )


@given(TOKENS, TOKENS, TOKENS, TOKENS)
def test_parsing_is_the_inverse_of_making(one: str, two: str, three: str, four: str) -> None:
    assert SUBJECTS.parse_events(SUBJECTS.events(one, two, three)) == EventSubject(one, two, three)
    commands = SUBJECTS.commands(one, two, three, four)
    assert SUBJECTS.parse_commands(commands) == CommandSubject(one, two, three, four)
    reports = SUBJECTS.reports(one, two, three, four)
    assert SUBJECTS.parse_reports(reports) == ReportSubject(one, two, three, four)
    assert SUBJECTS.parse_heartbeats(SUBJECTS.heartbeats(one, two)) == HeartbeatSubject(one, two)
    beats = SUBJECTS.service_heartbeats(one, two)
    assert SUBJECTS.parse_service_heartbeats(beats) == ServiceHeartbeatSubject(one, two)
    assert SUBJECTS.parse_progress(SUBJECTS.progress(one, two, three)) == ProgressSubject(one, two, three)


@pytest.mark.parametrize("bad", ["", "a.b", "*", ">", "a b", "a\r\nPUB x", "é"])
def test_what_has_a_meaning_to_nats_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="not fit"):
        SUBJECTS.commands(bad, "compute", "EnsureDomain", OBJECT)
    with pytest.raises(ValueError, match="not fit"):
        consumer_name("h1", bad)
    with pytest.raises(ValueError, match="not fit"):
        Subjects(bad)


@pytest.mark.parametrize(
    "subject",
    [
        "c2.reports.h1.net.PortObserved.x",
        "c1.commands.h1.net.PortObserved.x",
        "c1.reports.h1.net.PortObserved",
        "c1.reports.h1.net.PortObserved.x.y",
        "c1.reports.h1.*.PortObserved.x",
        "",
    ],
)
def test_subjects_of_another_cell_kind_or_length_are_refused(subject: str) -> None:
    with pytest.raises(ValueError, match="not "):
        SUBJECTS.parse_reports(subject)


def test_a_consumer_is_named_by_host_and_agent() -> None:
    assert consumer_name("h1", "compute") == "h1--compute"
    assert parse_consumer_name("h1--compute") == ("h1", "compute")
    assert parse_consumer_name("rack--7--net") == ("rack--7", "net")
    with pytest.raises(ValueError, match="not the name"):
        parse_consumer_name("h1-compute")
