"""`--watch`: drawn anew on a terminal, appended in a pipe, until interrupted or until what is shown is gone."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode

from cirra.compute.v1 import compute_pb2 as compute
from cirra.events.v1 import events_pb2 as events
from tests.unit.sdk.conftest import Cirra
from tests.unit.sdk.fake_gateway import Failure, FakeGateway
from tests.unit.sdk.messages import running_instance
from tests.unit.sdk.terminal import read_until

COMMAND = Path(sys.executable).with_name("cirra")
GONE = Failure(StatusCode.NOT_FOUND, "no instance 'web'", "NOT_FOUND", "check the name")


def instance(**fields: Any) -> compute.Instance:
    made = running_instance()
    made.MergeFrom(compute.Instance(**fields))
    return made


class Story:
    """What the lists say, one after the other; an event tells of each new one."""

    def __init__(self, gateway: FakeGateway, *lists: list[compute.Instance]) -> None:
        self._gateway = gateway
        self._lists = list(lists)
        self._told = threading.Semaphore(0)
        self.looks = 0
        gateway.answers("ListInstances", self._list)
        gateway.answers("WatchEvents", self._events)

    def _list(self, request: compute.ListInstancesRequest) -> compute.ListInstancesResponse:
        now = self._lists[min(self.looks, len(self._lists) - 1)]
        self.looks += 1
        self._told.release()
        return compute.ListInstancesResponse(instances=now)

    def _events(self, request: events.WatchEventsRequest) -> Iterator[events.Event]:
        for position in range(1, len(self._lists)):
            self._told.acquire(timeout=60)
            yield events.Event(position=position)
        self._told.acquire(timeout=60)
        # The last one was seen, and with it all.
        raise Failure(StatusCode.PERMISSION_DENIED, "enough", "PERMISSION_DENIED")


STORY = (
    [instance(display_name="web", status=compute.INSTANCE_STATUS_BUILD)],
    [
        instance(display_name="web", status=compute.INSTANCE_STATUS_ACTIVE),
        compute.Instance(uid="i2", display_name="db"),
    ],
    [compute.Instance(uid="i2", display_name="db")],
)


def test_in_a_pipe_changes_are_appended(gateway: FakeGateway, cirra: Cirra) -> None:
    Story(gateway, *STORY)
    result = cirra("server", "list", "--watch")
    table, changed, new, gone = result.stdout.splitlines()[2:]
    assert table.split()[:3] == ["i1", "web", "BUILD"]
    assert changed.endswith("web: status BUILD → ACTIVE")
    assert "db: new, display_name db" in new and gone.endswith("web: gone")
    assert (result.exit_code, "enough" in result.stderr) == (1, True)


def test_as_json_there_is_a_document_a_line(gateway: FakeGateway, cirra: Cirra) -> None:
    Story(gateway, *STORY)
    told = [json.loads(line) for line in cirra("server", "list", "-w", "-o", "json").stdout.splitlines()]
    assert [(it["display_name"], it["status"], it.get("deleted")) for it in told] == [
        ("web", "BUILD", None),
        ("web", "ACTIVE", None),
        ("db", None, None),
        ("web", "ACTIVE", True),
    ]


def test_what_did_not_change_is_not_told_again(gateway: FakeGateway, cirra: Cirra) -> None:
    story = Story(gateway, STORY[0], STORY[0], STORY[0])
    result = cirra("server", "list", "--watch", "-o", "name")
    assert (result.stdout, story.looks) == ("projects/p1/instances/i1\n", 3)


def test_a_thing_that_is_renamed_is_the_same_and_its_end_ends_the_watch(gateway: FakeGateway, cirra: Cirra) -> None:
    names: list[str] = []

    def get(request: compute.GetInstanceRequest) -> compute.Instance:
        names.append(request.name)
        if len(names) == 3:
            raise GONE
        return instance(display_name="web" if len(names) == 1 else "db")

    gateway.answers("GetInstance", get)
    gateway.answers("WatchEvents", lambda request: _forever(gateway))
    result = cirra("server", "show", "web", "--watch")
    assert (result.exit_code, result.stderr) == (0, "it is gone\n")
    renamed, gone = result.stdout.splitlines()[-2:]
    assert renamed.endswith("Z  display_name web → db") and gone.endswith("Z  gone")
    assert names == ["web", "projects/p1/instances/i1", "projects/p1/instances/i1"]


def _forever(gateway: FakeGateway) -> Iterator[events.Event]:
    for position in range(1, 60):
        yield events.Event(position=position)
        gateway.cancelled.wait(0.5)


def test_what_was_never_there_is_not_found(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers("WatchEvents", lambda request: _forever(gateway))
    gateway.fails("GetInstance", GONE)
    result = cirra("server", "show", "web", "--watch")
    assert (result.exit_code, result.stdout) == (3, "") and "no instance 'web'" in result.stderr


@pytest.mark.parametrize("path", [("event", "list"), ("server", "create"), ("server", "watch"), ("audit",)])
def test_where_it_makes_no_sense_there_is_none(cirra: Cirra, path: tuple[str, ...]) -> None:
    assert "--watch" not in cirra(*path, "--help").stdout
    assert "--watch" in cirra("host", "list", "--help").stdout


def test_on_a_terminal_it_is_drawn_anew_until_ctrl_c(gateway: FakeGateway, process_environment: dict[str, str]) -> None:
    Story(gateway, *STORY[:2], STORY[1], STORY[1])
    gateway.answers("WatchEvents", lambda request: _forever(gateway))
    master, slave = pty.openpty()
    environment = {**process_environment, "TERM": "xterm", "COLUMNS": "150", "LINES": "40"}
    with subprocess.Popen(
        [str(COMMAND), "server", "list", "--watch"], env=environment, stdin=slave, stdout=slave, stderr=slave
    ) as process:
        os.close(slave)
        came = read_until(master, "BUILD")
        came += read_until(master, "ACTIVE")
        # Up over the lines of the table that stands there (ECMA-48, CUU), each erased (EL).
        assert "\x1b[1A" in came and "\x1b[2K" in came
        process.send_signal(signal.SIGINT)
        came = read_until(master, "interrupted")
        assert process.wait(30) == 130 and "Traceback" not in came
    os.close(master)
