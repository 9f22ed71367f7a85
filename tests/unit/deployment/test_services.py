"""The table of processes: pure, so it can be read here as the services will read it."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from deployment.config import Config
from deployment.layout import Layout
from deployment.process import Program
from deployment.servers import Servers
from deployment.services import AGENTS, CONTROL_PLANE, ServiceTable, agent_programs, port_names

SERVERS = Servers("postgresql://db", ("tls://127.0.0.1:4222",), "qemu:///system")
ROOT = Path("/state")


def table(replicas: int) -> ServiceTable:
    ports = {name: 20_000 + number for number, name in enumerate(port_names(replicas))}
    config = Config("c", "h1", UUID(int=1), "192.0.2.1", replicas, ports)
    return ServiceTable(Layout(ROOT), config, SERVERS, {"PATH": "/bin", "CIRRA_LOG_LEVEL": "debug"})


def programs(replicas: int) -> dict[str, Program]:
    made = table(replicas)
    return {program.name: program for program in [*made.control_plane(), *made.agents()]}


def test_each_replica_of_the_control_plane_and_one_of_each_agent() -> None:
    expected = {f"{service}-{number}" for service in CONTROL_PLANE for number in (1, 2)} | set(AGENTS)
    assert programs(2).keys() == expected


def test_nobody_shares_a_port_a_log_or_a_ready_file() -> None:
    made = list(programs(3).values())
    listening = [
        program.environment[name]
        for program in made
        for name in ("CIRRA_LISTEN", "CIRRA_HTTP_LISTEN")
        if name in program.environment
    ]
    assert len(set(listening)) == len(listening) == 3 * len(CONTROL_PLANE) + 3
    assert len({program.log for program in made}) == len({program.ready_file for program in made}) == len(made)


def test_everybody_finds_the_others() -> None:
    made = programs(2)
    conductors = ",".join(made[f"conductor-{number}"].environment["CIRRA_LISTEN"] for number in (1, 2))
    placements = ",".join(made[f"placement-{number}"].environment["CIRRA_LISTEN"] for number in (1, 2))
    for gateway in (made["api-gateway-1"], made["api-gateway-2"]):
        assert gateway.environment["CIRRA_CONDUCTOR_ADDRESSES"] == conductors
        assert gateway.environment["CIRRA_PLACEMENT_ADDRESSES"] == placements
    told = made["conductor-2"].environment
    metadata = [made[f"metadata-{number}"].environment for number in (1, 2)]
    assert told["CIRRA_METADATA_URL"] == ",".join(f"https://{each['CIRRA_HTTP_LISTEN']}" for each in metadata)
    assert {each["CIRRA_CONDUCTOR_ADDRESSES"] for each in metadata} == {conductors}
    assert told["CIRRA_IMAGE_DOWNLOAD_URL"].startswith(
        f"https://{made['api-gateway-1'].environment['CIRRA_HTTP_LISTEN']}"
    )
    assert told["CIRRA_ADVERTISED_CONDUCTOR_ADDRESSES"] == conductors


@pytest.mark.parametrize("agent", AGENTS)
def test_agents_are_given_no_key_to_the_control_plane(agent: str) -> None:
    """What they may do comes with the host's identity."""
    environment = programs(1)[agent].environment
    forbidden = ("POSTGRES_DSN", "NATS_CREDENTIALS", "MASTER_KEY_FILE", "TLS_DIRECTORY", "TOKEN_KEY_FILE")
    assert not any(f"CIRRA_{name}" in environment for name in forbidden)
    assert environment["CIRRA_HOST_DIRECTORY"] == str(ROOT / "host")


def test_each_service_has_its_own_identity_and_only_its_keys() -> None:
    made = programs(1)
    for service in CONTROL_PLANE:
        assert made[f"{service}-1"].environment["CIRRA_TLS_DIRECTORY"].endswith(f"/{service}")
        assert made[f"{service}-1"].environment["CIRRA_NATS_CREDENTIALS"].endswith(f"/{service}.creds")
    assert "CIRRA_TOKEN_KEY_FILE" not in made["conductor-1"].environment
    assert "CIRRA_CA_DIRECTORY" not in made["api-gateway-1"].environment


def test_the_callers_settings_reach_services_and_the_table_goes_before_them() -> None:
    ports = {name: 20_000 + number for number, name in enumerate(port_names(1))}
    config = Config("c", "h1", UUID(int=1), "192.0.2.1", 1, ports)
    inherited = {"CIRRA_LOG_LEVEL": "debug", "CIRRA_CELL": "another"}
    [conductor, *_] = ServiceTable(Layout(ROOT), config, SERVERS, inherited).control_plane()
    assert conductor.environment["CIRRA_LOG_LEVEL"] == "debug"
    assert conductor.environment["CIRRA_CELL"] == "c"


@pytest.mark.parametrize(
    ("hosts", "inherited", "expected"),
    [
        (1, {}, None),
        (3, {}, "vxlan"),
        (3, {"CIRRA_TENANT_NETWORK_TYPE": "vlan"}, "vlan"),
        (1, {"CIRRA_TENANT_NETWORK_TYPE": "vxlan"}, "vxlan"),
    ],
)
def test_networks_of_several_hosts_go_between_them(hosts: int, inherited: dict[str, str], expected: str | None) -> None:
    ports = {name: 20_000 + number for number, name in enumerate(port_names(1))}
    config = Config("c", "h1", UUID(int=1), "192.0.2.1", 1, ports, hosts=hosts)
    [conductor, *_] = ServiceTable(Layout(ROOT), config, SERVERS, inherited).control_plane()
    assert conductor.environment.get("CIRRA_TENANT_NETWORK_TYPE") == expected


def test_rebuilders_are_no_replicas() -> None:
    made = table(1)
    replicas = {program.environment["CIRRA_REPLICA"] for program in made.control_plane()}
    for rebuilder in made.rebuilders():
        assert rebuilder.argv[-1] == "--rebuild"
        assert rebuilder.environment["CIRRA_REPLICA"] not in replicas
        assert "CIRRA_LISTEN" not in rebuilder.environment


def test_programs_that_services_start_are_left_alone_by_grpc() -> None:
    """Its handlers of fork(2) abort the child while calls are under way."""
    assert {program.environment["GRPC_ENABLE_FORK_SUPPORT"] for program in programs(1).values()} == {"0"}


def test_a_further_hosts_agents_are_as_this_hosts_own() -> None:
    """All but where they are, and who."""
    own = {program.name: program for program in table(1).agents()}
    disk = Layout(Path("/var/lib/cirra"))
    further = {program.name: program for program in agent_programs(disk, "c", "h2", SERVERS.libvirt_uri, {})}
    assert further.keys() == own.keys()
    for name, program in further.items():
        assert program.argv == own[name].argv
        assert program.environment.keys() == own[name].environment.keys() - {"PATH", "CIRRA_LOG_LEVEL"}
        assert program.environment["GRPC_ENABLE_FORK_SUPPORT"] == "0"
        assert program.environment["CIRRA_HOST_DIRECTORY"] == "/var/lib/cirra/host"


def test_an_agent_can_be_told_apart_from_the_others() -> None:
    inherited = {"CIRRA_DRIVER": "simulated", "CIRRA_NET_AGENT_DRIVER": "linux"}
    made = agent_programs(Layout(ROOT), "c", "h1", "qemu:///system", inherited)
    drivers = {program.name: program.environment["CIRRA_DRIVER"] for program in made}
    assert drivers == {"compute-agent": "simulated", "net-agent": "linux", "block-agent": "simulated"}
