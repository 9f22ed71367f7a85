"""The exit codes that docs/cli.md promises: each has a case here, and no other is there."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from grpc import StatusCode

from cirra.compute.v1 import compute_pb2 as compute
from cirra.events.v1 import events_pb2 as events
from cirra.network.v1 import diagnosis_pb2 as diagnosis
from cirra.operations.v1 import operations_pb2 as operations
from tests.unit.sdk.conftest import Cirra
from tests.unit.sdk.fake_gateway import Failure, FakeGateway
from tests.unit.sdk.messages import running_instance
from tests.unit.sdk.terminal import read_until

PAGE = Path(__file__).parents[3] / "docs" / "cli.md"
COMMAND = Path(sys.executable).with_name("cirra")


def _refused(code: StatusCode) -> Callable[[FakeGateway], None]:
    return lambda gateway: gateway.fails("DeleteImage", Failure(code, "no", code.name, "ask"))


def _nothing(gateway: FakeGateway) -> None:
    """It answers as it is."""


def _failed(gateway: FakeGateway) -> None:
    error = operations.OperationError(reason="NO_VALID_HOST", message="no room", remedy="add a host")
    ended = operations.Operation(uid="o", state=operations.OPERATION_STATE_FAILED, done=True, error=error)
    gateway.answers("WatchOperation", [ended])


def _broken(gateway: FakeGateway) -> None:
    hop = diagnosis.Hop(name="tap", state=diagnosis.HOP_STATE_BROKEN)
    gateway.answers("Diagnose", diagnosis.Diagnosis(hops=[hop], verdict=diagnosis.Verdict(state=hop.state, hop=hop)))


CASES: list[tuple[int, tuple[str, ...], Callable[[FakeGateway], None], dict[str, str | None]]] = [
    (0, ("server", "list"), _nothing, {}),
    (1, ("image", "delete", "x"), _refused(StatusCode.PERMISSION_DENIED), {}),
    (1, ("image", "delete", "x"), _refused(StatusCode.FAILED_PRECONDITION), {}),
    (1, ("image", "delete", "x"), _refused(StatusCode.INVALID_ARGUMENT), {}),
    (1, ("image", "delete", "x"), _refused(StatusCode.RESOURCE_EXHAUSTED), {}),
    (1, ("image", "delete", "x"), _refused(StatusCode.INTERNAL), {}),
    (1, ("operation", "watch", "o"), _failed, {}),
    (1, ("server", "list"), _nothing, {"CIRRA_PASSWORD": "wrong"}),
    (2, ("server", "list", "--nonsense"), _nothing, {}),
    (2, ("server", "list", "--status", "WELL"), _nothing, {}),
    (2, ("image", "create", "x", "--file", "/nowhere"), _nothing, {}),
    (2, ("server", "list"), _nothing, {"CIRRA_ENDPOINT": None}),
    (2, ("server", "list"), _nothing, {"CIRRA_PASSWORD": None}),
    (2, ("server", "list"), _nothing, {"CIRRA_ENDPOINT": "http://cloud.example:80"}),
    (3, ("image", "delete", "x"), _refused(StatusCode.NOT_FOUND), {}),
    (4, ("server", "list"), _nothing, {"CIRRA_ENDPOINT": "http://127.0.0.1:1"}),
    (5, ("network", "diagnose", "x"), _broken, {}),
]


@pytest.fixture(autouse=True)
def answers(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cirra_sdk.cli.command.RETRY_FOR_S", 0.2)
    gateway.answers("ListInstances", compute.ListInstancesResponse(instances=[running_instance()]))


@pytest.mark.parametrize("number", range(len(CASES)))
def test_a_code(gateway: FakeGateway, cirra: Cirra, number: int) -> None:
    code, arguments, prepare, environment = CASES[number]
    prepare(gateway)
    result = cirra(*arguments, **environment)
    assert (result.exit_code, "Traceback" in result.stderr) == (code, False), result.stderr
    assert (result.stdout == "") == (code not in (0, 5)), "what goes wrong says nothing on stdout"
    if code not in (0, 5):
        assert "remedy: " in result.stderr or "Try 'cirra server list -h' for help" in result.stderr


def test_the_page_promises_these_and_no_others() -> None:
    table = PAGE.read_text().partition("| exit code |")[2].partition("\n\n")[0]
    promised = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert promised == {code for code, *_ in CASES} | {130}


def test_an_error_is_as_plain_for_a_program(gateway: FakeGateway, cirra: Cirra) -> None:
    """`-o json` is of the data: there is none."""
    gateway.fails("GetInstance", Failure(StatusCode.NOT_FOUND, "no instance 'web'", "NOT_FOUND"))
    result = cirra("server", "show", "web", "-o", "json")
    assert (result.exit_code, result.stdout) == (3, "") and result.stderr.startswith("error: ")


def test_what_waits_is_interrupted_and_says_how_to_go_on(
    gateway: FakeGateway, process_environment: dict[str, str]
) -> None:
    def answer(request: operations.WatchOperationRequest) -> Iterator[operations.Operation]:
        step = operations.OperationStep(step="claim_host", state=operations.STEP_STATE_SUCCEEDED)
        yield operations.Operation(uid="o1", kind="instance-stop", steps=[step])
        gateway.cancelled.wait(30)

    gateway.answers("StopInstance", operations.Operation(uid="o1"))
    gateway.answers("WatchOperation", answer)
    with subprocess.Popen(
        [str(COMMAND), "server", "stop", "web", "--wait"],
        env=process_environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        assert b"claim_host" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        printed, told = process.communicate(timeout=120)
    assert (printed, process.returncode) == (b"", 130)
    assert told == b"it goes on; follow it: cirra operation watch o1\ninterrupted\n"


@pytest.mark.parametrize("question", ["login", "user create bob"])
def test_a_question_that_nobody_answers(cirra: Cirra, question: str) -> None:
    result = cirra(*question.split(), stdin="")
    assert result.exit_code == 2 and "nothing came from stdin" in result.stderr and "remedy: " in result.stderr


@pytest.mark.parametrize(("no_color", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_are_for_terminals_without_no_color(
    gateway: FakeGateway, process_environment: dict[str, str], no_color: dict[str, str], coloured: bool
) -> None:
    """https://no-color.org"""
    kept = {name: value for name, value in process_environment.items() if name != "NO_COLOR"}
    master, slave = pty.openpty()
    with subprocess.Popen(
        [str(COMMAND), "server", "list"],
        env={**kept, "TERM": "xterm-256color", "COLUMNS": "150", **no_color},
        stdin=slave,
        stdout=slave,
        stderr=slave,
    ) as process:
        os.close(slave)
        came = read_until(master, "10.0.0.5")
        assert process.wait(30) == 0
    os.close(master)
    assert "ACTIVE" in came
    # SGR with a colour (ECMA-48, 8.3.117): 30 to 37.
    assert bool(re.search(r"\x1b\[(\d+;)*3[0-7]m", came)) == coloured, came


def test_events_watch_is_event_watch(gateway: FakeGateway, cirra: Cirra) -> None:
    for noun in ("events", "event"):
        gateway.fails("WatchEvents", Failure(StatusCode.PERMISSION_DENIED, "enough", "PERMISSION_DENIED"))
        cirra(noun, "watch", "--after", "3")
    assert gateway.requests("WatchEvents") == [events.WatchEventsRequest(after_position=3)] * 2
