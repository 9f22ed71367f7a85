"""What the command asks the cloud for, and how it waits."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from grpc import StatusCode

from cirra.compute.v1 import compute_pb2 as compute
from cirra.identity.v1 import identity_pb2 as identity
from cirra.image.v1 import image_pb2 as image
from cirra.network.v1 import network_pb2 as network
from cirra.operations.v1 import operations_pb2 as operations
from cirra.placement.v1 import placement_pb2 as placement
from tests.unit.sdk.conftest import Cirra
from tests.unit.sdk.fake_gateway import Failure, FakeGateway
from tests.unit.sdk.messages import at, running_instance

CREATE = ("server", "create", "web", "--flavor", "small", "--image", "debian", "--network", "lan")


def operation(
    state: operations.OperationState.ValueType, *steps: operations.OperationStep, **fields: object
) -> operations.Operation:
    done = state in (operations.OPERATION_STATE_SUCCEEDED, operations.OPERATION_STATE_FAILED)
    return operations.Operation(
        name="operations/o1",
        uid="o1",
        kind="instance-create",
        target="projects/p1/instances/i1",
        state=state,
        done=done,
        steps=steps,
        create_time=at(0),
        end_time=at(3.5) if done else None,
        **fields,  # type: ignore[arg-type]
    )


def step(name: str, state: operations.StepState.ValueType, begin: float, end: float = 0) -> operations.OperationStep:
    return operations.OperationStep(
        step=name,
        item="ports/x" if name == "bind_ports" else "",
        state=state,
        attempt=1,
        start_time=at(begin),
        end_time=at(end) if end else None,
        detail="on host-1" if name == "claim_host" and end else "",
    )


RUNNING, SUCCEEDED = operations.STEP_STATE_RUNNING, operations.STEP_STATE_SUCCEEDED
CLAIM = step("claim_host", SUCCEEDED, 0, 0.012)
BIND = step("bind_ports", SUCCEEDED, 0.1, 2.6)


@pytest.fixture(autouse=True)
def instance(gateway: FakeGateway) -> None:
    gateway.answers("CreateInstance", operation(operations.OPERATION_STATE_RUNNING))
    gateway.answers("DeleteInstance", operation(operations.OPERATION_STATE_RUNNING))
    gateway.answers("GetInstance", running_instance())


def test_create_says_what_is_wanted(gateway: FakeGateway, cirra: Cirra, tmp_path: Path) -> None:
    (tmp_path / "setup").write_bytes(b"#cloud-config\n\xff")
    result = cirra(
        *CREATE,
        *("--nic", "net=lan2,ip=10.0.0.9", "--nic", "port=p1", "--key-name", "ann", "--property", "role=web"),
        *("--user-data", str(tmp_path / "setup"), "--availability-zone", "north", "-o", "name"),
    )
    assert result.stdout == "projects/p1/instances/i1\n"
    assert result.stderr == "building; follow it: cirra operation watch o1\n"
    assert gateway.requests("CreateInstance")[0].instance == compute.Instance(
        display_name="web",
        flavor="small",
        image="debian",
        key_pair="ann",
        nics=[
            compute.InstanceNic(network="lan2", fixed_ip="10.0.0.9"),
            compute.InstanceNic(port="p1"),
            compute.InstanceNic(network="lan"),
        ],
        user_data=b"#cloud-config\n\xff",
        metadata={"role": "web"},
        availability_zone="north",
    )
    assert gateway.requests("GetInstance")[0].name == "projects/p1/instances/i1"


def test_user_data_from_stdin(gateway: FakeGateway, cirra: Cirra) -> None:
    assert cirra(*CREATE, "--user-data", "-", stdin=b"#!/bin/sh\n").exit_code == 0
    assert gateway.requests("CreateInstance")[0].instance.user_data == b"#!/bin/sh\n"


def test_waiting_prints_each_step_once_with_its_duration_on_stderr(gateway: FakeGateway, cirra: Cirra) -> None:
    begun = operation(operations.OPERATION_STATE_RUNNING, CLAIM, step("bind_ports", RUNNING, 0.1))
    gateway.answers("WatchOperation", [begun, begun, operation(operations.OPERATION_STATE_SUCCEEDED, CLAIM, BIND)])
    result = cirra(*CREATE, "--wait", "-o", "name")
    assert (result.exit_code, result.stdout) == (0, "projects/p1/instances/i1\n")
    assert [line.split() for line in result.stderr.splitlines()] == [
        ["✓", "claim_host", "12", "ms", "on", "host-1"],
        ["✓", "bind_ports", "x", "2.50", "s"],
        ["instance-create:", "done", "in", "3.50", "s"],
    ]


def test_waiting_for_what_fails_ends_with_fault_and_remedy(gateway: FakeGateway, cirra: Cirra) -> None:
    failed = step("spawn", operations.STEP_STATE_FAILED, 0.1, 0.2)
    failed.error.CopyFrom(operations.OperationError(reason="DISK_FULL", message="no space on host-1"))
    undone = step("claim_host", operations.STEP_STATE_UNDONE, 0, 0.012)
    error = operations.OperationError(reason="DISK_FULL", message="no space on host-1", remedy="add a disk")
    gateway.answers(
        "WatchOperation",
        [
            operation(operations.OPERATION_STATE_RUNNING, CLAIM),
            operation(operations.OPERATION_STATE_FAILED, undone, failed, error=error),
        ],
    )
    result = cirra(*CREATE, "--wait")
    assert (result.exit_code, result.stdout) == (1, "")
    lines = [" ".join(line.split()) for line in result.stderr.splitlines()]
    assert lines == [
        "✓ claim_host 12 ms on host-1",
        "↶ claim_host 12 ms undone",
        "✗ spawn 100 ms DISK_FULL: no space on host-1",
        "error: no space on host-1 (DISK_FULL)",
        "remedy: add a disk",
    ]


def test_waiting_has_an_end(gateway: FakeGateway, cirra: Cirra) -> None:
    def answer(request: operations.WatchOperationRequest) -> object:
        yield operation(operations.OPERATION_STATE_RUNNING)
        gateway.cancelled.wait(10)

    gateway.answers("WatchOperation", answer)
    result = cirra(*CREATE, "--wait", "--timeout", "0.2")
    assert result.exit_code == 1
    assert "still not done after 0.2 s" in result.stderr
    assert "cirra operation watch o1" in result.stderr


def test_delete_waits_and_prints_nothing_but_progress(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers("WatchOperation", [operation(operations.OPERATION_STATE_SUCCEEDED)])
    result = cirra("server", "delete", "a", "b", "--wait")
    assert (result.exit_code, result.stdout) == (0, "")
    assert [request.name for request in gateway.requests("DeleteInstance")] == ["a", "b"]
    printed = json.loads(cirra("server", "delete", "a", "--wait", "-o", "json").stdout)
    assert printed["state"] == "SUCCEEDED"


def test_instance_is_another_word_for_server(cirra: Cirra) -> None:
    assert cirra("instance", "show", "web").stdout == cirra("server", "show", "web").stdout


def test_list_filters(gateway: FakeGateway, cirra: Cirra) -> None:
    instances = [compute.Instance(uid=str(number)) for number in range(5)]
    gateway.answers("ListInstances", compute.ListInstancesResponse(instances=instances))
    result = cirra(
        *("server", "list", "--all-projects", "--host", "h", "--name", "web"),
        *("--status", "error", "--limit", "2", "--long"),
    )
    [request] = gateway.requests("ListInstances")
    assert (request.all_projects, request.host, request.display_name) == (True, "h", "web")
    assert request.status == compute.INSTANCE_STATUS_ERROR
    assert len(result.stdout.splitlines()) == 4 and "Created" in result.stdout


def test_as_of(gateway: FakeGateway, cirra: Cirra) -> None:
    assert cirra("server", "show", "web", "--as-of", "2026-01-31T12:00:00").exit_code == 0
    assert cirra("server", "show", "web", "--as-of", "10m").exit_code == 0
    fixed, ago = (request.as_of.ToDatetime(UTC) for request in gateway.requests("GetInstance"))
    assert fixed == datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
    assert abs(datetime.now(UTC) - timedelta(minutes=10) - ago) < timedelta(minutes=1)


def test_an_image_is_created_and_uploaded_at_once(gateway: FakeGateway, cirra: Cirra, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"x" * 3000)
    gateway.answers("CreateImage", image.Image(name="images/1", uid="1", status=image.IMAGE_STATUS_QUEUED))
    gateway.answers("UploadImageData", image.Image(name="images/1", status=image.IMAGE_STATUS_ACTIVE))
    arguments = ("--format", "raw", "--property", "os_distro=debian", "--min-disk", "2", "--public")
    result = cirra("image", "create", "debian", "--file", str(tmp_path / "disk"), *arguments, "-o", "json")
    assert json.loads(result.stdout)["status"] == "ACTIVE"
    [created] = gateway.requests("CreateImage")
    assert created.image == image.Image(
        display_name="debian",
        disk_format=image.DISK_FORMAT_RAW,
        properties={"os_distro": "debian"},
        min_disk_gib=2,
        visibility=image.IMAGE_VISIBILITY_PUBLIC,
    )
    [[header, *_]] = gateway.requests("UploadImageData")
    assert (header.header.name, header.header.size_bytes) == ("images/1", 3000)


def test_networks_subnets_and_ports(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers("CreateNetwork", network.Network(uid="n"))
    gateway.answers("CreateSubnet", network.Subnet(uid="s"))
    gateway.answers("CreatePort", network.Port(uid="p"))
    assert cirra("network", "create", "lan", "--physical-network", "physnet1", "--shared").exit_code == 0
    subnet = ("subnet", "create", "lan4", "--network", "lan", "--subnet-range", "10.0.0.0/24", "--gateway", "none")
    pool = ("--allocation-pool", "start=10.0.0.10,end=10.0.0.20", "--dns-nameserver", "9.9.9.9")
    assert cirra(*subnet, *pool).exit_code == 0
    assert cirra("port", "create", "--network", "lan", "--fixed-ip", "ip=10.0.0.11").exit_code == 0
    [lan] = gateway.requests("CreateNetwork")
    assert (lan.network.physical_network, lan.network.shared) == ("physnet1", True)
    [made] = gateway.requests("CreateSubnet")
    assert made.subnet == network.Subnet(
        display_name="lan4",
        network="lan",
        cidr="10.0.0.0/24",
        no_gateway=True,
        allocation_pools=[network.AllocationPool(start="10.0.0.10", end="10.0.0.20")],
        dns_nameservers=["9.9.9.9"],
    )
    [port] = gateway.requests("CreatePort")
    assert port.port == network.Port(network="lan", fixed_ips=[network.FixedIp(ip_address="10.0.0.11")])


def test_projects_users_and_quotas(gateway: FakeGateway, cirra: Cirra, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hush\n")
    for rpc, answer in {
        "CreateProject": identity.Project(uid="p"),
        "CreateUser": identity.User(name="users/u", uid="u"),
        "GrantRole": identity.User(uid="u"),
        "SetQuotas": identity.Quotas(),
    }.items():
        gateway.answers(rpc, answer)
    assert cirra("project", "create", "demo", "--description", "for all").exit_code == 0
    created = cirra(
        *("user", "create", "bob", "--password-file", str(tmp_path / "password")),
        *("--role", "member", "--project", "demo"),
    )
    assert created.exit_code == 0
    assert cirra("user", "grant", "bob", "--role", "admin").exit_code == 0
    assert cirra("quota", "set", "demo", "--instances", "3", "--ram", "-1").exit_code == 0
    assert gateway.requests("CreateUser")[0].password == b"hush"
    first, second = gateway.requests("GrantRole")
    assert (first.user, first.binding.project_id, first.binding.role) == ("users/u", "demo", identity.ROLE_MEMBER)
    assert (second.user, second.binding.role) == ("bob", identity.ROLE_ADMIN)
    limits = {quota.resource: quota.limit for quota in gateway.requests("SetQuotas")[0].quotas}
    assert limits == {"instances": 3, "memory_mib": -1}


def test_several_servers_at_once(gateway: FakeGateway, cirra: Cirra) -> None:
    begun = [operations.Operation(uid=f"o{n}", target=f"projects/p/instances/{n}", done=True) for n in (1, 2)]
    gateway.answers("CreateInstances", compute.CreateInstancesResponse(operations=begun))
    gateway.answers("GetInstance", compute.Instance(display_name="web-1"))
    what = ("server", "create", "web", "--flavor", "f", "--image", "i", "--network", "n", "--property", "a=b")
    made = cirra(*what, "--min", "2", "--max", "5")
    assert (made.exit_code, made.stdout.count("web-1")) == (0, 2)
    assert made.stderr.count("cirra operation watch o") == 2
    [request] = gateway.requests("CreateInstances")
    assert (request.min_count, request.max_count, request.instance.display_name) == (2, 5, "web")
    assert (request.instance.nics[0].network, dict(request.instance.metadata)) == ("n", {"a": "b"})
    [first, second] = gateway.requests("GetInstance")
    assert (first.name, second.name) == ("projects/p/instances/1", "projects/p/instances/2")


def test_a_console_that_writes_to_terminals(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers("GetConsoleOutput", compute.ConsoleOutput(output="\x1b[2Jone\ttwo\r\n\x07three\n"))
    shown = cirra("server", "log", "web", "-n", "2")
    assert (shown.exit_code, shown.stdout) == (0, "[2Jone  two\nthree\n")
    assert json.loads(cirra("server", "log", "web", "-o", "json").stdout)["output"].startswith("\x1b[2J")
    assert [request.lines for request in gateway.requests("GetConsoleOutput")] == [2, 0]
    assert cirra("server", "log", "web", "-n", "-1").exit_code == 2


def test_limits_as_people_say_them(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers("SetDefaultQuotas", identity.Quotas(quotas=[identity.Quota(resource="volumes", limit=-1)]))
    told = ("--volumes", "unlimited", "--gigabytes", "0", "--floating-ips", "2", "--security-groups", "-1")
    changed = cirra("quota", "set", "--default", *told)
    assert (changed.exit_code, "unlimited" in changed.stdout) == (0, True)
    limits = {quota.resource: quota.limit for quota in gateway.requests("SetDefaultQuotas")[0].quotas}
    assert limits == {"volumes": -1, "gigabytes": 0, "floating_ips": 2, "security_groups": -1}
    for wrong in (
        ("demo", "--ram", "lots"),
        ("demo", "--ram", "-2"),
        ("--ram", "1"),
        ("demo", "--default", "--ram", "1"),
    ):
        assert cirra("quota", "set", *wrong).exit_code == 2
    assert cirra("quota", "show", "demo", "--default").exit_code == 2


def test_hosts(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers("DisableHost", placement.Host(name="hosts/a"))
    gateway.answers("CreateEnrolmentToken", placement.EnrolmentToken(host="b", token="once"))
    assert cirra("host", "disable", "a", "--reason", "broken fan").exit_code == 0
    assert gateway.requests("DisableHost")[0].reason == "broken fan"
    result = cirra("host", "enroll-token", "b", "-o", "name")
    assert (result.stdout, result.stderr) == ("once\n", "it is shown this once\n")


def test_a_key_pair_from_a_file(gateway: FakeGateway, cirra: Cirra, tmp_path: Path) -> None:
    (tmp_path / "id.pub").write_text("ssh-ed25519 AAAA ann@home\n")
    gateway.answers("CreateKeyPair", compute.KeyPair(uid="k"))
    assert cirra("keypair", "create", "ann", "--public-key", "~/id.pub").exit_code == 0
    assert gateway.requests("CreateKeyPair")[0].key_pair.public_key == "ssh-ed25519 AAAA ann@home"


def test_the_next_command_reads_what_this_one_wrote_and_needs_no_new_login(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers("ListInstances", compute.ListInstancesResponse())
    gateway.position = 77
    cirra(*CREATE)
    cirra("server", "list")
    assert len(gateway.requests("CreateToken")) == 1
    [listed] = gateway.calls_of("ListInstances")
    assert listed.metadata["cirra-min-position"] == "77"


def test_another_user_has_another_token(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers("ListInstances", compute.ListInstancesResponse())
    cirra("server", "list")
    cirra("--user", "bob", "server", "list")
    cirra("--project", "other", "server", "list")
    logins = [(request.user, request.project) for request in gateway.requests("CreateToken")]
    assert logins == [("ann", ""), ("bob", ""), ("ann", "other")]


def test_log_in_once_then_work_without_a_password(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers("ListInstances", compute.ListInstancesResponse())
    gateway.answers("RevokeToken", identity.RevokeTokenResponse())
    assert "cirra login" in cirra("server", "list", CIRRA_PASSWORD=None).stderr

    login = cirra("login", stdin="secret\n", CIRRA_PASSWORD=None)
    assert login.exit_code == 0 and "logged in as ann" in login.stderr
    assert cirra("server", "list", CIRRA_PASSWORD=None).exit_code == 0
    assert cirra("token", "issue", "-o", "name", CIRRA_PASSWORD=None).stdout == "token-1\n"

    assert cirra("logout", CIRRA_PASSWORD=None).exit_code == 0
    assert gateway.requests("RevokeToken")[0].access_token == "token-1"
    assert cirra("server", "list", CIRRA_PASSWORD=None).exit_code == 2


def test_a_token_that_was_revoked_elsewhere_asks_for_a_login(gateway: FakeGateway, cirra: Cirra) -> None:
    cirra("login", stdin="secret\n", CIRRA_PASSWORD=None)
    gateway.fails("ListInstances", Failure(StatusCode.UNAUTHENTICATED, "revoked", "TOKEN_REVOKED", "log in again"))
    result = cirra("server", "list", CIRRA_PASSWORD=None)
    assert (result.exit_code, result.stderr) == (1, "error: revoked (TOKEN_REVOKED)\nremedy: log in again\n")


def test_where_nothing_can_be_kept_the_command_still_works(gateway: FakeGateway, cirra: Cirra, tmp_path: Path) -> None:
    gateway.answers("ListInstances", compute.ListInstancesResponse())
    (tmp_path / ".cache").write_text("not a folder")
    result = cirra("server", "list")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: ") and "every command logs in anew" in result.stderr


def test_an_operation_with_its_steps(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers("GetOperation", operation(operations.OPERATION_STATE_SUCCEEDED, CLAIM, BIND))
    shown = cirra("operation", "show", "o1").stdout
    assert "SUCCEEDED" in shown and "✓ claim_host" in shown and "on host-1" in shown


def test_a_password_is_printed_whole_and_alone(gateway: FakeGateway, cirra: Cirra) -> None:
    """It goes on through a pipe: no wrapping, however long it is."""
    posted = "QUJD" * 171
    gateway.answers(
        "GetInstancePassword", compute.InstancePassword(name="projects/p/instances/i", password=posted.encode())
    )
    assert cirra("server", "password", "web").stdout == f"{posted}\n"
    assert gateway.requests("GetInstancePassword")[0].name == "web"


def test_a_server_is_given_tags(gateway: FakeGateway, cirra: Cirra) -> None:
    result = cirra(*CREATE, "--tag", "blue", "--tag", "green")
    assert result.exit_code == 0, result.stderr
    assert gateway.requests("CreateInstance")[0].instance.tags == ["blue", "green"]


def test_fields_have_the_names_that_people_use(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers(
        "GetSubnet", network.Subnet(uid="s1", display_name="lan4", cidr="10.0.0.0/24", gateway_ip="10.0.0.1")
    )
    shown = [line.split("  ")[0] for line in cirra("subnet", "show", "lan4").stdout.splitlines()]
    assert {"ID", "Name", "CIDR", "Gateway IP", "DNS nameservers"} <= set(shown)
