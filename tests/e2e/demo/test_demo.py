"""The spine of Cirra, end to end with a real guest: what `make demo` shows, and what it does not show."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from cirra.compute.v1.compute_pb2 import INSTANCE_STATUS_ACTIVE, Instance
from cirra.operations.v1.operations_pb2 import Operation
from cirra_sdk.errors import NotFound
from core.ids import dhcp_namespace, last_segment, tap_device
from deployment import guests
from deployment.demo import facts
from deployment.demo.key import new_key
from deployment.demo.leftovers import left_on_host
from deployment.demo.place import Place
from deployment.demo.tenant import Tenant, make_tenant
from deployment.demo.userdata import user_data
from deployment.enrolment import wait_usable
from deployment.servers import servers
from tests.e2e.cloud import Cloud, comes_true, eventually
from tests.e2e.machine import checked

pytestmark = [pytest.mark.root, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

LAST_LINE = re.compile(r"demo: ok instance=[0-9a-f-]{36} ip=10\.42\.0\.\d+ active_s=[\d.]+ ssh_s=[\d.]+")
# Emulated guests, and others who want the processors.
TIMEOUT_S = 240.0
EVERY_PART = {"api-gateway", "conductor", "placement", "compute-agent", "net-agent"}


@dataclass(frozen=True, slots=True)
class Booted:
    tenant: Tenant
    instance: Instance


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def booted(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Booted]:
    """A tiny guest that runs, has its address, and has fetched its metadata."""
    image = guests.build("tiny")
    public_key = new_key(tmp_path_factory.mktemp("key") / "id", "e2e")
    async with cloud.admin() as admin:
        tenant = await make_tenant(admin, image, "tiny", public_key, print)
        operation = await tenant.boot(user_data("tiny", "from-user-data"))
        await tenant.user.operations.wait(operation, timeout_s=TIMEOUT_S)
        instance = await facts.wait_seen(tenant.user, operation.target)
        yield Booted(tenant, instance)


async def test_the_demo_itself(cloud: Cloud) -> None:
    """With its delete, and nothing left; what it prints ends as promised."""
    finished = await cloud.deploy("demo", "--guest", "tiny", "--delete")
    assert finished.code == 0, finished.output
    assert LAST_LINE.fullmatch(finished.output.strip().splitlines()[-1])
    assert re.search(r"login from outside, through 203\.0\.113\.\d+", finished.output)
    assert "nothing of it is left on the host" in finished.output


async def test_guest_has_its_address_and_its_user_data(cloud: Cloud, booted: Booted) -> None:
    nic = booted.instance.nics[0]
    assert booted.instance.status == INSTANCE_STATUS_ACTIVE
    assert nic.fixed_ip == nic.leased_ip == nic.seen_ip != ""
    assert booted.instance.HasField("metadata_fetch_time")
    console = cloud.guest_folder(booted.instance.uid) / "console.log"
    await eventually(lambda: "TINY user-script user data done" in console.read_text(errors="replace"), "user data")
    assert f"ip={nic.fixed_ip} " in console.read_text(errors="replace")


async def test_one_trace_tells_of_every_part(cloud: Cloud, booted: Booted) -> None:
    timeline = await booted.tenant.user.timeline.get(booted.instance.name)
    assert re.fullmatch(r"[0-9a-f]{32}", timeline.trace_id)

    def services() -> set[object]:
        return {span["service"] for span in cloud.spans() if span["trace_id"] == timeline.trace_id}

    await eventually(lambda: services() >= EVERY_PART, "spans of every part")


async def test_timeline_has_each_step_with_its_duration(booted: Booted) -> None:
    wanted = {"claim_host", "bind_port", "spawn", "PortLeaseSeen", "InstanceMetadataFetched"}

    async def told() -> bool:
        timeline = await booted.tenant.user.timeline.get(booted.instance.name)
        return wanted <= {entry.title for entry in timeline.entries}

    await comes_true(told, "each step is told")
    timeline = await booted.tenant.user.timeline.get(booted.instance.name)
    durations = {entry.title: entry.duration_ms for entry in timeline.entries}
    assert durations["spawn"] > 0
    sources = {entry.source.partition("@")[0] for entry in timeline.entries}
    assert {"conductor", "placement", "net-agent", "compute-agent", "metadata"} <= sources


@pytest.mark.parametrize("agent", ["compute-agent", "net-agent"])
async def test_kill_of_an_agent_touches_no_guest(cloud: Cloud, booted: Booted, agent: str) -> None:
    before = _of_guest(cloud, booted.instance)
    assert len(before) == 3, before
    killed = cloud.pid(agent)
    os.kill(killed, signal.SIGKILL)
    await eventually(lambda: cloud.runs_anew(agent, killed), f"{agent} runs again")
    seen = await booted.tenant.user.instances.get(booted.instance.name)
    assert seen.status == INSTANCE_STATUS_ACTIVE
    assert _of_guest(cloud, booted.instance) == before
    # And it does its job again: what needs both agents succeeds.
    await _another_boots(cloud, booted.tenant)
    assert _of_guest(cloud, booted.instance) == before


async def test_kill_of_servers_and_services_at_once(cloud: Cloud, booted: Booted) -> None:
    """Each comes back by itself, with nothing lost; the guest notices none of it."""
    guest = _of_guest(cloud, booted.instance)
    victims = ("postgres", "nats-server", "libvirtd", "conductor-1", "placement-1", "api-gateway-1", "metadata-1")
    killed = {name: cloud.pid(name) for name in victims}
    for pid in killed.values():
        os.kill(pid, signal.SIGKILL)
    await eventually(lambda: all(cloud.runs_anew(name, pid) for name, pid in killed.items()), "all are back", TIMEOUT_S)
    assert _of_guest(cloud, booted.instance) == guest
    await _another_boots(cloud, booted.tenant)
    await _is_well(cloud)


async def test_kill_of_the_supervisor_leaves_all_running(cloud: Cloud, booted: Booted) -> None:
    """Another `up` takes the servers over, starts services anew, and touches no guest."""
    guest, postgres = _of_guest(cloud, booted.instance), cloud.pid("postgres")
    supervisor = psutil.Process(int((await cloud.deploy("status")).output.split("supervisor", 1)[1].split()[0]))
    supervisor.kill()
    gone, _ = psutil.wait_procs([supervisor], timeout=60)
    assert gone
    assert (await cloud.deploy("status")).code == 1
    assert (await cloud.deploy("up")).code == 0
    assert cloud.pid("postgres") == postgres
    assert _of_guest(cloud, booted.instance) == guest
    await _is_well(cloud)


async def test_read_models_are_rebuilt(cloud: Cloud, booted: Booted) -> None:
    before = await booted.tenant.user.instances.get(booted.instance.name)
    finished = await cloud.deploy("rebuild")
    assert finished.code == 0, finished.output
    assert finished.output.count("(100%)") >= 4
    assert await booted.tenant.user.instances.get(booted.instance.name) == before
    # Who rebuilt was no replica: nobody misses it.
    assert "rebuild" not in await _is_well(cloud)


async def test_delete_leaves_nothing(cloud: Cloud, booted: Booted) -> None:
    """The last one: no domain, tap, bridge, namespace or file of the guest."""
    nic = booted.instance.nics[0]
    assert tap_device(last_segment(nic.port)) in await cloud.machine.links()
    await _delete(booted.tenant, booted.instance.name)
    with pytest.raises(NotFound):
        await booted.tenant.user.instances.get(booted.instance.name)
    place = Place(cloud.layout, servers(cloud.layout, cloud.config).libvirt_uri, tuple(cloud.machine.enter()))
    # The last port takes its network along: the host is told of that when the port is gone.
    await eventually(lambda: not left_on_host(place, booted.instance), "the end of its network")
    await eventually(lambda: not _of_guest(cloud, booted.instance), "the end of what served it")
    assert not cloud.guest_folder(booted.instance.uid).exists()
    assert tap_device(last_segment(nic.port)) not in await cloud.machine.links()
    namespaces = await checked("ip", "netns")
    assert dhcp_namespace(last_segment(nic.network)) not in namespaces

    async def without_rules() -> bool:
        return await cloud.machine.nft_tables() == ""

    await comes_true(without_rules, "the end of its rules")


async def _another_boots(cloud: Cloud, tenant: Tenant) -> None:
    """And goes. On a busy machine the host may just have been silent for too long."""
    await wait_usable(cloud.layout, cloud.config.host, cloud.layout.logs)
    operation = await tenant.boot(user_data("tiny", "another"))
    await tenant.user.operations.wait(operation, timeout_s=TIMEOUT_S)
    await _delete(tenant, operation.target)


async def _is_well(cloud: Cloud) -> str:
    """What `status` prints, once nothing is amiss: projections are a moment behind, hosts heard a moment later."""
    status = await cloud.deploy("status")

    async def well() -> bool:
        nonlocal status
        status = await cloud.deploy("status")
        return status.code == 0

    if status.code != 0:
        await comes_true(well, "all is well")
    return status.output


async def _delete(tenant: Tenant, name: str) -> Operation:
    return await tenant.user.operations.wait(await tenant.user.instances.delete(name), timeout_s=TIMEOUT_S)


def _of_guest(cloud: Cloud, instance: Instance) -> dict[str, int]:
    """The processes that serve a guest: QEMU, and its network's dnsmasq and metadata proxy; name → pid."""
    network_folder = str(Path("networks") / last_segment(instance.nics[0].network))
    found = {}
    for process in psutil.process_iter(["name", "cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if str(cloud.layout.root) in line and (instance.uid in line or network_folder in line):
            found[process.info["name"]] = process.pid
    return found
