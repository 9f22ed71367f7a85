"""What the shell offers after TAB: commands, options, words, and the names of what is in the cloud."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode
from typer.main import get_command

from cirra.compute.v1 import compute_pb2 as compute
from cirra.network.v1 import network_pb2 as network
from cirra.placement.v1 import decisions_pb2 as decisions
from cirra.placement.v1 import placement_pb2 as placement
from cirra_sdk.cli import completing
from cirra_sdk.cli.completing import EVERYTHING, offered
from cirra_sdk.cli.main import app
from tests.harness.promptness import bound_s
from tests.unit.sdk.conftest import Cirra
from tests.unit.sdk.fake_gateway import Failure, FakeGateway
from tests.unit.sdk.terminal import read_until

COMMAND = Path(sys.executable).with_name("cirra")
UID = "01a1fd6f-2fa7-7ab2-91a7-9c95acdd5962"
SAME = "01a1fd70-2fa7-7ab2-91a7-9c95acdd5962"

PATIENCE_S = completing.ANSWER_WITHIN_S

Complete = Callable[..., list[str]]


@pytest.fixture
def complete(cirra: Cirra, monkeypatch: pytest.MonkeyPatch) -> Complete:
    """What is offered for a line, as the script of `cirra completion bash` asks for it, by a person with patience: what
    shares this machine with the tests may be busy."""
    from typer.completion import completion_init

    monkeypatch.setattr(completing, "ANSWER_WITHIN_S", 20.0)

    completion_init()

    def run(line: str, **environment: str | None) -> list[str]:
        result = cirra(
            _CIRRA_COMPLETE="complete_fish",
            _TYPER_COMPLETE_FISH_ACTION="get-args",
            _TYPER_COMPLETE_ARGS=line,
            **environment,
        )
        assert result.stderr == ""
        return [found.partition("\t")[0] for found in result.stdout.splitlines() if found]

    return run


@pytest.fixture(autouse=True)
def things(gateway: FakeGateway) -> None:
    instances = [
        compute.Instance(uid="a", display_name="web"),
        compute.Instance(uid="b", display_name="db"),
        compute.Instance(uid=UID, display_name="twin"),
        compute.Instance(uid=SAME, display_name="twin"),
    ]
    gateway.answers("ListInstances", compute.ListInstancesResponse(instances=instances))
    networks = [network.Network(uid="n", display_name="lan"), network.Network(uid="m", display_name="my lan")]
    gateway.answers("ListNetworks", network.ListNetworksResponse(networks=networks))
    gateway.answers("ListPorts", network.ListPortsResponse(ports=[network.Port(uid=UID)]))
    gateway.answers("ListHosts", placement.ListHostsResponse(hosts=[placement.Host(name="hosts/h1", uid="h1")]))
    zones = decisions.ListAvailabilityZonesResponse(zones=[decisions.AvailabilityZone(name="north")])
    gateway.answers("ListAvailabilityZones", zones)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cirra serv", ["server", "service"]),
        ("cirra server list --sta", ["--status"]),
        ("cirra server list --status ac", ["active"]),
        ("cirra server list --status AC", ["ACTIVE"]),
        ("cirra server show w", ["web"]),
        ("cirra server show ", [UID, SAME, "db", "web"]),
        ("cirra server show 01a1fd70", [SAME]),
        ("cirra server delete web d", ["db"]),
        ("cirra port show ", [UID]),
        ("cirra host disable ", ["h1"]),
        ("cirra server create x --availability-zone n", ["north"]),
        ("cirra server create x --nic ", ["net=", "port="]),
        ("cirra server create x --nic net=l", ["net=lan"]),
        ("cirra server create x --nic ip=10.0.0.1,net=m", ["ip=10.0.0.1,net=my lan"]),
        ("cirra server create x --nic ip=1", []),
        ("cirra server show nothing-like-it", []),
        ("cirra timeline la", ["lan"]),
        ("cirra event list --resource h", ["h1"]),
        ("cirra completion z", ["zsh"]),
    ],
)
def test_what_is_offered(complete: Complete, line: str, expected: list[str]) -> None:
    assert complete(line) == expected


def test_a_cloud_of_the_file_is_offered_and_asked(complete: Complete, gateway: FakeGateway, tmp_path: Path) -> None:
    (tmp_path / "clouds.yaml").write_text(
        f"clouds: {{dev: {{endpoint: '{gateway.endpoint}', user: ann, password: secret}}, prod: {{endpoint: 'x:1'}}}}"
    )
    assert complete("cirra --cloud ", CIRRA_ENDPOINT=None) == ["dev", "prod"]
    assert complete("cirra --cloud dev server show w", CIRRA_ENDPOINT=None, CIRRA_USER=None) == ["web"]
    assert complete("cirra --cloud prod server show w", CIRRA_ENDPOINT=None, CIRRA_USER=None) == []


def test_a_kind_that_is_not_for_this_user_hides_no_other(complete: Complete, gateway: FakeGateway) -> None:
    gateway.fails("ListHosts", Failure(StatusCode.PERMISSION_DENIED, "no", "PERMISSION_DENIED"))
    assert complete("cirra timeline ") == [UID, SAME, "db", "lan", "my lan", "web"]


@pytest.mark.parametrize(
    "environment",
    [
        {"CIRRA_ENDPOINT": None},
        {"CIRRA_PASSWORD": None},
        {"CIRRA_PASSWORD": "wrong"},
        {"CIRRA_ENDPOINT": "http://127.0.0.1:1"},
        {"CIRRA_ENDPOINT": "nonsense"},
        {"CIRRA_CA_FILE": "/nowhere", "CIRRA_ENDPOINT": "127.0.0.1:1"},
    ],
)
def test_where_nobody_can_be_asked_nothing_is_said(complete: Complete, environment: dict[str, Any]) -> None:
    assert complete("cirra server show ", **environment) == []


def test_a_cloud_that_does_not_answer_is_not_waited_for(complete: Complete, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = time.monotonic()
    assert complete("cirra server show ")
    work_s = time.monotonic() - begin
    monkeypatch.setattr(completing, "ANSWER_WITHIN_S", PATIENCE_S)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        begin = time.monotonic()
        assert complete("cirra server show ", CIRRA_ENDPOINT=f"http://127.0.0.1:{deaf.getsockname()[1]}") == []
        assert time.monotonic() - begin < bound_s(3 * PATIENCE_S, work_s=work_s, waited_s=0)


def test_debugging_says_why(cirra: Cirra, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completing, "ANSWER_WITHIN_S", 20.0)
    told = cirra(
        _CIRRA_COMPLETE="complete_fish",
        _TYPER_COMPLETE_FISH_ACTION="get-args",
        _TYPER_COMPLETE_ARGS="cirra server show ",
        CIRRA_PASSWORD="wrong",
        CIRRA_DEBUG="1",
    )
    assert "wrong user or password" in told.stderr


def test_a_name_that_several_bear_is_no_answer() -> None:
    things = [("twin", "u1"), ("twin", "u2"), ("", "u3"), ("one", "u4")]
    assert offered(things, "") == ["one", "u1", "u2", "u3"]
    assert offered(things, "u4") == ["u4"]


def _parameters(path: tuple[str, ...], entry: Any) -> Iterator[tuple[str, Any]]:
    if hasattr(entry, "commands"):
        for word, below in entry.commands.items():
            yield from _parameters((*path, word), below)
    for parameter in entry.params:
        yield " ".join((*path, parameter.name)), parameter


def test_every_argument_that_names_a_thing_is_completed() -> None:
    """A new command is not forgotten: what is said to be a name is one of something."""
    named = {
        where: parameter
        for where, parameter in _parameters((), get_command(app))
        if parameter.param_type_name == "argument" and "What to call it" not in (parameter.help or "")
    }
    assert len(named) > 40
    beside = {"completion shell", "image upload file", "host enroll-token host", "token revoke token"}
    beside |= {"security group rule delete uids"}
    missing = {where for where, parameter in named.items() if parameter._custom_shell_complete is None}
    assert missing == beside


def test_everything_that_has_a_history_is_a_collection() -> None:
    from cirra_sdk.client import AsyncClient

    class NoTransport:
        channel = type("Channel", (), {kind: lambda *a, **b: None for kind in _CALLS})()

    client = AsyncClient(NoTransport())  # type: ignore[arg-type]
    assert all(hasattr(getattr(client, kind), "list") for kind in EVERYTHING)


_CALLS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("cirra server show w", "cirra server show web "),
        ("cirra server create x --network my", r"cirra server create x --network my\ lan "),
        ("cirra server create x --nic net=l", "cirra server create x --nic net=lan "),
        ("cirra server create x --nic n", "cirra server create x --nic net="),
        ("cirra --cl", "cirra --cloud "),
    ],
)
def test_in_bash(
    gateway: FakeGateway, environment: dict[str, str | None], tmp_path: Path, typed: str, line: str
) -> None:
    """A real one, on a terminal: what stands in the line after TAB."""
    told = {name: value for name, value in environment.items() if value is not None}
    told |= {"CIRRA_ENDPOINT": gateway.endpoint, "CIRRA_USER": "ann", "CIRRA_PASSWORD": "secret"}
    told |= {"PATH": f"{COMMAND.parent}:{os.environ['PATH']}", "TERM": "dumb", "PS1": "ready$ ", "INPUTRC": "/dev/null"}
    (tmp_path / "rc").write_text(
        "source <(cirra completion bash)\nPS1='ready$ '\nbind 'set enable-bracketed-paste off'\n"
    )
    master, slave = pty.openpty()
    with subprocess.Popen(
        ["bash", "--noprofile", "--rcfile", str(tmp_path / "rc"), "-i"],
        env=told,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    ) as shell:
        os.close(slave)
        read_until(master, "ready$ ")
        os.write(master, typed.encode())
        try:
            assert line in read_until(master, line, typing="\t")
        finally:
            shell.kill()
            os.close(master)
