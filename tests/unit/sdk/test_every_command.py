"""Every command runs with no more than it asks for, and prints something that its formats can hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode
from typer.main import get_command

from cirra.compute.v1.compute_pb2 import Instance, WatchInstancesResponse
from cirra_sdk.cli.main import app
from tests.unit.sdk.conftest import Cirra
from tests.unit.sdk.fake_gateway import SERVICES, Failure, FakeGateway
from tests.unit.sdk.test_every_method import NOT_FOR_USERS

# Parameters that take one of a few words.
UID = "01a1fd6f-2fa7-7ab2-91a7-9c95acdd5962"
WORDS = {"role": "reader", "policy": "affinity", "type": "vxlan"}
# What is not made of the command's own arguments and required options.
BESIDES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("quota", "set"): ("--vcpus", "1"),
    ("host", "accept"): ("--all",),
    ("host", "set"): ("--cpu-allocation-ratio", "4"),
    ("aggregate", "set"): ("--zone", "z"),
    ("network", "set"): ("--mtu", "1400"),
    ("subnet", "set"): ("--no-dhcp",),
    ("router", "set"): ("--name", "1"),
    ("server", "create"): ("--network", "lan"),
    ("port", "set"): ("--disable-port-security",),
    ("security", "group", "set"): ("--name", "1"),
    ("server", "set"): ("--name", "1"),
    ("server", "unset"): ("--tag", "1"),
    ("user", "create"): ("--password-file", "{file}"),
}
# Of these a person gets a note on stderr, and a program the operation.
BEGINS = {("server", verb) for verb in ("start", "stop", "reboot", "add-port", "add-network", "remove-port")}
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
            if method.name in ("GetInstance", "GetUser"):
                answer.uid = answer.etag = "of-it"
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


# What is written for the values of options; else "1".
VALUES = {
    **{"host_route": "destination=10.1.0.0/16,gateway=10.0.0.9"},
    **{"nic": "net=n,ip=10.0.0.1,port=p", "fixed_ip": "subnet=s,ip=10.0.0.1", "allocation_pool": "start=a,end=b"},
    **{"properties": "k=v", "hint": "group=g", "as_of": "10m", "since": "10m", "until": "now", "from_": "1", "to": "2"},
    **{"route": "destination=10.1.0.0/16,gateway=10.0.0.9"},
    **{"allowed_address": "ip=10.0.0.9,mac=fa:16:3e:00:00:01", "ethertype": "IPv6"},
    **{"disk_format": "raw", "output": "json", "target": UID, "resource": UID},
}
# One is enough, or each goes without the other.
NOT_WITH: dict[tuple[str, ...], set[str]] = {
    ("operation", "list"): {"stuck"},
    ("host", "accept"): {"all_"},
    # The answer of this test is a server.
    ("operation", "show"): {"as_of"},
    ("router", "show"): {"as_of"},
    ("quota", "show"): {"default"},
    ("quota", "set"): {"default"},
    # Either the groups or none.
    ("port", "create"): {"no_security_group"},
    # Several are asked for by another method.
    ("server", "create"): {"at_least", "at_most"},
    ("router", "set"): {"no_route"},
}
# The cloud says them, not who asks; and the token of a second page, which these lists do not have.
NOT_TOLD = {
    *("page_token", "name", "uid", "create_time", "update_time", "launch_time", "etag", "project_id", "user_id"),
    *("fingerprint", "hostname", "status", "status_reason", "task_state", "power_state", "flavor_summary", "host"),
    *("fault", "metadata_fetch_time", "virt_type", "server_group", "locked", "locked_reason", "members", "roles"),
    *("size_bytes", "virtual_size_bytes", "sha256", "subnets", "device_id", "bindings", "leased_ip", "seen_ip"),
    *("lease_time", "seen_time", "hosts", "interfaces", "routes", "router", "is_default"),
}
# Said by the command in words of their own.
ELSEWHERE = {
    "port.floating_ips": "cirra floating-ip associate",
    "security_group.rules": "security group rule create",
    "key_pair.type": "it is read from the key",
    "subnet.no_gateway": "--gateway none",
    "settled_only": "who waits with the command is told each step",
}


# The other ways, then.
ALSO = (
    ("quota", "show", "--default"),
    ("port", "create", "--network", "n", "--no-security-group"),
    ("quota", "set", "--default", "--vcpus", "1"),
)


def _everything(path: tuple[str, ...], file: Path) -> list[str]:
    """The command with every option that it has."""
    told = list(path)
    for parameter in COMMANDS[path].params:
        words = {"status": "ACTIVE", "state": "RUNNING", **WORDS, **VALUES}
        text = str(file) if parameter.metavar == "FILE" else words.get(parameter.name, "1")
        if parameter.param_type_name == "argument":
            told.append(text)
        elif parameter.name not in {"help", "watch", "wait", *NOT_WITH.get(path, ())}:
            told += [parameter.opts[-1]] if parameter.is_flag else [parameter.opts[-1], text]
    return told


def _told(request: Any, path: str = "") -> Iterator[str]:
    """The fields of a request that are set, inner ones by their path."""
    for field, value in request.ListFields():
        yield f"{path}{field.name}"
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for inner in value if field.is_repeated else [value]:
                yield from _told(inner, f"{path}{field.name}.")


@pytest.mark.timeout(300)
def test_every_method_and_every_field_of_its_request_can_be_told(
    gateway: FakeGateway, cirra: Cirra, tmp_path: Path
) -> None:
    """A new method, filter or property of the API is in the command too, or this says why not."""
    (tmp_path / "file").write_text("content")
    # They would never end.
    gateway.answers("WatchInstances", [WatchInstancesResponse(deleted=True)])
    gateway.fails("WatchEvents", Failure(StatusCode.PERMISSION_DENIED, "enough", "PERMISSION_DENIED"))
    all_of = {path: _everything(path, tmp_path / "file") for path in COMMANDS}
    for arguments in (*all_of.values(), [*all_of["server", "create"], "--min", "2", "--max", "3"], *ALSO):
        result = cirra(*arguments, stdin="secret\n", CIRRA_PROJECT="demo")
        assert result.exit_code == 0 or arguments[:2] == ["event", "watch"], (arguments, result.stderr)
    told: dict[str, set[str]] = {}
    for call in gateway.calls:
        for request in call.request if isinstance(call.request, list) else [call.request]:
            told.setdefault(call.method, set()).update(_told(request))
    methods = {method.name: method for service in SERVICES for method in service.methods}
    assert methods.keys() - told.keys() == NOT_FOR_USERS
    assert {
        f"{name}: {field}"
        for name, fields in told.items()
        for field in _fields(methods[name])
        if field not in fields and field.rpartition(".")[2] not in NOT_TOLD and field not in ELSEWHERE
    } == set()


def _fields(method: Any) -> Iterator[str]:
    """What a request may say; of what is to be created, each of its fields."""
    for field in method.input_type.fields:
        yield field.name
        if method.name.startswith("Create") and field.message_type is not None and not field.is_repeated:
            yield from (f"{field.name}.{inner.name}" for inner in field.message_type.fields)


@pytest.mark.timeout(300)
def test_help_of_every_command(cirra: Cirra) -> None:
    for path in COMMANDS:
        result = cirra(*path, "--help")
        assert result.exit_code == 0 and "--output" in result.stdout
