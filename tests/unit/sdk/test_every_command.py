"""Every command runs with no more than it asks for, and prints something that its formats can hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message_factory import GetMessageClass
from typer.main import get_command

from cirra.compute.v1.compute_pb2 import Instance
from cirra_sdk.cli.main import app
from tests.unit.sdk.conftest import Cirra
from tests.unit.sdk.fake_gateway import SERVICES, FakeGateway

# Parameters that take one of a few words.
WORDS = {"role": "reader", "policy": "affinity"}
# What is not made of the command's own arguments and required options.
BESIDES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("quota", "set"): ("--vcpus", "1"),
    ("host", "accept"): ("--all",),
    ("host", "set"): ("--cpu-allocation-ratio", "4"),
    ("aggregate", "set"): ("--zone", "z"),
    ("server", "set"): ("--name", "1"),
    ("server", "unset"): ("--tag", "1"),
    ("user", "create"): ("--password-file", "{file}"),
}
# Of these a person gets a note on stderr, and a program the operation.
BEGINS = {("server", "start"), ("server", "stop"), ("server", "reboot")}
PRINTS_NO_RESOURCE = {"login", "logout", ("server", "log"), ("token", "revoke")}


def _commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    yield from _below((), get_command(app))


def _below(path: tuple[str, ...], group: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The verbs of a noun, and of nouns of two words ("server group")."""
    for word, entry in group.commands.items():
        # It asks no cloud: tests/unit/sdk/test_cli_completion.py
        if entry.hidden or word == "completion":
            continue
        if hasattr(entry, "commands"):
            yield from _below((*path, word), entry)
        else:
            yield (*path, word), entry


COMMANDS = dict(_commands())


@pytest.fixture(autouse=True)
def answering(gateway: FakeGateway) -> None:
    """Every method answers with as little as possible."""
    for service in SERVICES:
        for method in service.methods:
            answer: Any = GetMessageClass(method.output_type)()
            if method.output_type.name == "Operation":
                answer.uid, answer.done = "o1", True
            if method.name == "GetInstancePassword":
                answer.password = b"hush"
            if method.output_type.name == "ResourceAsOf":
                answer.data.Pack(Instance())
            gateway.answers(method.name, [answer] if method.server_streaming else answer)


def _arguments(path: tuple[str, ...], file: Path) -> list[str]:
    told = list(path)
    for parameter in COMMANDS[path].params:
        text = str(file) if parameter.metavar == "FILE" else "1"
        if parameter.param_type_name == "argument":
            told.append(text)
        elif parameter.required:
            told += [parameter.opts[0], WORDS.get(parameter.name, text)]
    return told + [part.format(file=file) for part in BESIDES.get(path, ())]


@pytest.mark.parametrize("path", [path for path in COMMANDS if path[-1] != "watch"], ids=" ".join)
@pytest.mark.parametrize("output", ["table", "json"])
def test_a_command(cirra: Cirra, tmp_path: Path, path: tuple[str, ...], output: str) -> None:
    (tmp_path / "file").write_text("content")
    result = cirra(*_arguments(path, tmp_path / "file"), "-o", output, stdin="secret\n")
    assert (result.exit_code, "error" in result.stderr) == (0, False), result.stderr
    if path[0] in PRINTS_NO_RESOURCE or path in PRINTS_NO_RESOURCE or path[-1] == "delete":
        return
    if output == "table" and path in BEGINS:
        return
    if output == "json":
        json.loads(result.stdout)
    else:
        assert result.stdout.strip()


def test_help_of_every_command(cirra: Cirra) -> None:
    for path in COMMANDS:
        result = cirra(*path, "--help")
        assert result.exit_code == 0 and "--output" in result.stdout
