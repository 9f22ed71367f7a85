"""What the command says when something is wrong: one line what, one line what to do, and the exit code."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc import StatusCode

from cirra.compute.v1 import compute_pb2 as compute
from cirra.events.v1 import events_pb2 as events
from cirra.image.v1 import image_pb2 as image
from cirra.operations.v1 import operations_pb2 as operations
from tests.unit.sdk.conftest import Cirra
from tests.unit.sdk.fake_gateway import Failure, FakeGateway

COMMAND = Path(sys.executable).with_name("cirra")
CREATE = ["server", "create", "web", "--flavor", "f", "--image", "i"]
NOT_FOUND = Failure(StatusCode.NOT_FOUND, "no instance 'web'", "NOT_FOUND", "check the name and the project")


def test_not_found(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.fails("GetInstance", NOT_FOUND)
    result = cirra("server", "show", "web")
    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr == (
        "error: no instance 'web' (NOT_FOUND)\n"
        "remedy: check the name and the project; what there is: `cirra server list`\n"
    )


def test_each_bad_field_is_named(gateway: FakeGateway, cirra: Cirra) -> None:
    bad = {"instance.image": "no image 'x': check the name", "instance.nics": "give 1 to 16"}
    gateway.fails("CreateInstance", Failure(StatusCode.INVALID_ARGUMENT, "…", "INVALID_ARGUMENT", fields=bad))
    result = cirra("server", "create", "web", "--image", "x", "--flavor", "small", "--network", "lan")
    assert result.exit_code == 1
    assert result.stderr == (
        "error: instance.image: no image 'x': check the name\n"
        "       instance.nics: give 1 to 16\n"
        "remedy: correct what is named, and run the command again\n"
    )


def test_a_remedy_is_given_also_when_the_cloud_had_none(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.fails("CreateNetwork", Failure(StatusCode.ALREADY_EXISTS, "there is one", "ALREADY_EXISTS"))
    result = cirra("network", "create", "lan")
    assert result.exit_code == 1
    assert result.stderr == (
        "error: there is one (ALREADY_EXISTS)\nremedy: choose another name, or use the one that is there\n"
    )


def test_a_wrong_password(cirra: Cirra) -> None:
    result = cirra("server", "list", CIRRA_PASSWORD="wrong")
    assert result.exit_code == 1
    assert "wrong user or password" in result.stderr and "Traceback" not in result.stderr


def test_nobody_answers(cirra: Cirra, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cirra_sdk.cli.command.RETRY_FOR_S", 0.2)
    result = cirra("server", "list", CIRRA_ENDPOINT="http://127.0.0.1:1")
    assert result.exit_code == 4
    what, remedy = result.stderr.splitlines()
    assert what.startswith("error: no answer from the cloud at http://127.0.0.1:1")
    assert "Connection refused) (UNREACHABLE)" in what and "ipv4" not in what
    assert remedy.startswith("remedy: check that it runs, and the endpoint (CIRRA_ENDPOINT, or clouds.yaml)")
    assert "without http://" in remedy


def test_no_cloud_is_told(cirra: Cirra, tmp_path: Path) -> None:
    (tmp_path / "clouds.yaml").write_text("clouds: {}")
    result = cirra("server", "list", CIRRA_ENDPOINT=None)
    assert result.exit_code == 2
    assert "error: no cloud to talk to" in result.stderr and "remedy: set CIRRA_ENDPOINT" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["server", "show", "web", "--as-of", "noon"], "'noon' is no time"),
        (["server", "list", "--status", "WELL"], "give one of BUILD, ACTIVE, SHUTOFF, ERROR, DELETED"),
        ([*CREATE, "--nic", "nett=x"], "nett is not known"),
        (
            [*CREATE, "--network", "n", "--property", "x"],
            "give key=value",
        ),
        (CREATE, "give --network NAME"),
        ([*CREATE, "--nic", "lan"], "key=value with ip, net"),
        (
            [*CREATE, "--network", "n", "--user-data", "/"],
            "give a file",
        ),
        (["server", "group", "create", "g", "--policy", "lonely"], "'anti-affinity'"),
        (["flavor", "create", "f", "--vcpus", "99999999999", "--ram", "1", "--disk", "1"], "give a smaller number"),
        (["server", "show", "web", "--watch", "--as-of", "10m"], "what was does not change"),
        (["diff", "web", "--from", "2999-01-01"], "--from is in the future"),
        (["diff", "web", "--from", "9", "--to", "8"], "change them round"),
        (["audit", "--since", "9", "--until", "8"], "change them round"),
        (["audit", "--until", "soon"], "--until: 'soon' is no time"),
        (["server", "create", "web", "--flavor", "f"], "--image"),
        (["quota", "set", "demo"], "no limit is named"),
        (["server", "list", "-o", "xml"], "xml"),
        (["sevrer"], "sevrer"),
    ],
)
def test_wrong_usage(gateway: FakeGateway, cirra: Cirra, arguments: list[str], complaint: str) -> None:
    result = cirra(*arguments)
    assert result.exit_code == 2
    assert complaint in " ".join(result.stderr.replace("│", " ").split())
    assert [call.method for call in gateway.calls if call.method != "CreateToken"] == []


@pytest.mark.parametrize(
    "arguments",
    [
        [*CREATE, "--network", "n", "--user-data", "/nowhere/x"],
        ["image", "create", "debian", "--file", "/nowhere/x"],
        ["keypair", "create", "ann", "--public-key", "/nowhere/x"],
    ],
)
def test_a_file_that_is_not_there(gateway: FakeGateway, cirra: Cirra, arguments: list[str]) -> None:
    result = cirra(*arguments)
    assert result.exit_code == 2
    assert "error: /nowhere/x: No such file or directory" in result.stderr
    assert "remedy: check the file's name" in result.stderr
    assert gateway.calls == []


def test_several_are_deleted_although_one_is_not_there(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.fails("DeleteFlavor", NOT_FOUND)
    gateway.answers("DeleteFlavor", compute.DeleteFlavorResponse())
    result = cirra("flavor", "delete", "a", "b")
    assert result.exit_code == 3
    assert [request.name for request in gateway.requests("DeleteFlavor")] == ["a", "b"]
    assert result.stderr.count("error:") == 1


def test_an_image_that_is_refused_leaves_nothing_behind(gateway: FakeGateway, cirra: Cirra, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"QFI\xfb")
    gateway.answers("CreateImage", image.Image(name="images/1", uid="1"))
    gateway.answers("DeleteImage", image.DeleteImageResponse())
    reason = Failure(StatusCode.INVALID_ARGUMENT, "it has a backing file", "IMAGE_HAS_BACKING_FILE", "flatten it")
    gateway.fails("UploadImageData", reason)
    result = cirra("image", "create", "bad", "--file", str(tmp_path / "disk"))
    assert result.exit_code == 1
    assert result.stderr == "error: it has a backing file (IMAGE_HAS_BACKING_FILE)\nremedy: flatten it\n"
    assert [request.name for request in gateway.requests("DeleteImage")] == ["images/1"]


def test_a_fault_of_the_clients_own_is_no_traceback_unless_asked_for(gateway: FakeGateway, cirra: Cirra) -> None:
    # An answer that no gateway would give.
    gateway.answers("WatchOperation", [])
    gateway.answers("GetOperation", operations.Operation())
    gateway.answers("ListFlavors", lambda request: compute.ListFlavorsResponse(next_page_token="x"))

    def explode(request: object) -> object:
        raise RuntimeError("in the server")

    gateway.answers("GetFlavor", explode)
    quiet = cirra("flavor", "show", "x")
    assert quiet.exit_code == 1 and "Traceback" not in quiet.stderr and "error:" in quiet.stderr
    loud = cirra("flavor", "show", "x", CIRRA_DEBUG="1")
    assert loud.exit_code == 1 and "Traceback" in loud.stderr and "error:" in loud.stderr


def test_help_needs_no_grpc() -> None:
    """So that it, and completion, are there at once."""
    script = "import sys, cirra_sdk.cli.main; print(sorted({'grpc', 'yaml', 'google.protobuf'} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert loaded.stdout.strip() == "[]"


def test_a_reader_that_has_seen_enough(gateway: FakeGateway, process_environment: dict[str, str]) -> None:
    """`cirra flavor list | head -1` complains about nothing."""
    flavors = [compute.Flavor(name="x" * 1000) for number in range(1000)]
    gateway.answers("ListFlavors", compute.ListFlavorsResponse(flavors=flavors))
    command = f"set -o pipefail; {COMMAND} flavor list -o name | head -1"
    result = subprocess.run(
        ["bash", "-c", command], env=process_environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert (result.stdout, result.stderr, result.returncode) == ("x" * 1000 + "\n", "", 0)


def test_a_watch_is_ended_by_the_keyboard(gateway: FakeGateway, process_environment: dict[str, str]) -> None:
    def answer(request: events.WatchEventsRequest) -> Iterator[events.Event]:
        yield events.Event(position=1)
        gateway.cancelled.wait(30)

    gateway.answers("WatchEvents", answer)
    with subprocess.Popen(
        [str(COMMAND), "event", "watch"], env=process_environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip().startswith(b"1")
        process.send_signal(signal.SIGINT)
        printed, complaint = process.communicate(timeout=120)
    assert (printed, complaint, process.returncode) == (b"", b"interrupted\n", 130)
    assert gateway.cancelled.wait(5)
