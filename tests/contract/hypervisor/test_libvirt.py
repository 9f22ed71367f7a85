"""What only the libvirt driver does: taps, firmware, console, and living with a libvirtd that goes away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import libvirt
import psutil
import pytest

from cirra.agent.v1.desired_pb2 import (
    DESIRED_POWER_OFF,
    DOMAIN_STATE_ABSENT,
    DOMAIN_STATE_CRASHED,
    DOMAIN_STATE_RUNNING,
    DOMAIN_STATE_SHUTOFF,
    DomainObserved,
    NicSpec,
)
from compute_agent.drivers.libvirt import driver, guest
from compute_agent.drivers.libvirt.driver import LibvirtDriver
from core.agent.handler import AgentFailure
from core.errors import Unavailable
from core.ids import tap_device
from tests.contract.hypervisor.rigs import PATIENCE_S, LibvirtRig, absent, desired, make_so, new_id, until

pytestmark = pytest.mark.root

T = TypeVar("T")


@pytest.fixture
def nic() -> Iterator[NicSpec]:
    """A port whose tap exists, as the net-agent makes it."""
    port_id = new_id()
    nic = NicSpec(port_id=port_id, mac_address="fa:16:3e:12:34:56", device=tap_device(port_id), mtu=1450)
    subprocess.run(["ip", "tuntap", "add", "dev", nic.device, "mode", "tap"], check=True)
    subprocess.run(["ip", "link", "set", nic.device, "mtu", "1400", "up"], check=True)
    yield nic
    subprocess.run(["ip", "link", "del", nic.device], check=True)


async def run(rig: LibvirtRig, instance_id: str, **changes: Any) -> int:
    await make_so(rig, desired(rig, instance_id, 1, power=DESIRED_POWER_OFF, create=True, **changes))
    assert (await rig.handler.ensure(desired(rig, instance_id, 2, **changes))).state == DOMAIN_STATE_RUNNING
    return rig.process(instance_id)


def carrier(device: str) -> bool:
    """Has somebody opened the tap?"""
    return Path(f"/sys/class/net/{device}/carrier").read_text().strip() == "1"


def rename(device: str, name: str) -> None:
    subprocess.run(["ip", "link", "set", device, "down"], check=True)
    subprocess.run(["ip", "link", "set", device, "name", name, "up"], check=True)


def link(device: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(output_of("ip", "-j", "link", "show", device))[0]
    return found


def output_of(*command: str) -> bytes:
    return subprocess.run(command, check=True, capture_output=True).stdout


async def test_the_guest_gets_the_tap_of_its_port_and_leaves_it_behind(libvirt_rig: LibvirtRig, nic: NicSpec) -> None:
    instance_id = new_id()
    before = link(nic.device)
    process = await run(libvirt_rig, instance_id, nics=[nic])
    assert carrier(nic.device)
    command = " ".join(psutil.Process(process).cmdline())
    assert '"host_mtu":1450' in command, "the guest is told the network's MTU"
    assert '"mac":"fa:16:3e:12:34:56"' in command
    during = link(nic.device)
    assert (during["ifindex"], during["mtu"], during["address"]) == (before["ifindex"], 1400, before["address"])
    await libvirt_rig.handler.remove(absent(instance_id, 3))
    assert link(nic.device)["ifindex"] == before["ifindex"]
    assert not carrier(nic.device)


async def test_a_start_waits_for_a_tap_that_comes_a_little_later(libvirt_rig: LibvirtRig, nic: NicSpec) -> None:
    instance_id = new_id()
    rename(nic.device, "tap-not-yet")
    starting = asyncio.create_task(run(libvirt_rig, instance_id, nics=[nic]))
    await until(lambda: libvirt_rig.state.instance(instance_id).libvirt_xml.exists(), "it is defined")
    rename("tap-not-yet", nic.device)
    assert await starting


async def test_a_tap_that_is_missing_is_named(libvirt_rig: LibvirtRig) -> None:
    libvirt_rig.driver._tap_patience_s = 0.5
    instance_id = new_id()
    nic = NicSpec(port_id=new_id(), mac_address="fa:16:3e:00:00:01", device="tap00000000000", mtu=1450)
    with pytest.raises(AgentFailure, match=nic.port_id) as caught:
        await run(libvirt_rig, instance_id, nics=[nic])
    assert caught.value.reason == "TAP_MISSING"
    assert libvirt_rig.process(instance_id) == 0


async def test_the_disk_is_an_overlay_of_the_flavors_size_on_a_base_that_nobody_writes(libvirt_rig: LibvirtRig) -> None:
    instance_id = new_id()
    await run(libvirt_rig, instance_id, disk_gib=2)
    folder = libvirt_rig.state.instance(instance_id)
    info = json.loads(output_of("qemu-img", "info", "-U", "--output=json", str(folder.disk)))
    base = libvirt_rig.state.image_cache / libvirt_rig.image.sha256
    assert (info["format"], info["virtual-size"]) == ("qcow2", 2 << 30)
    assert (info["backing-filename"], info["backing-filename-format"]) == (str(base), "qcow2")
    assert base.stat().st_mode & 0o777 == 0o444
    made_of = folder.disk_info()
    assert made_of is not None and made_of.base_sha256 == libvirt_rig.image.sha256


async def test_a_guest_that_was_made_and_does_not_start_says_why_and_can_be_removed(libvirt_rig: LibvirtRig) -> None:
    instance_id = new_id()
    with pytest.raises(AgentFailure) as caught:
        await make_so(libvirt_rig, desired(libvirt_rig, instance_id, 1, create=True, memory_mib=2**31 - 1))
    assert (caught.value.reason, caught.value.reschedule) == ("DOMAIN_START_FAILED", True)
    assert "memory" in caught.value.message and "libvirtd" in caught.value.remedy
    assert caught.value.facts == DomainObserved(state=DOMAIN_STATE_CRASHED, disk_present=True)
    assert (await libvirt_rig.handler.remove(absent(instance_id, 2))).state == DOMAIN_STATE_ABSENT
    assert not libvirt_rig.state.instance(instance_id).path.exists()
    assert await libvirt_rig.handler.known_objects() == set()


async def test_many_guests_of_one_image_fill_the_cache_once(libvirt_rig: LibvirtRig) -> None:
    wishes = [desired(libvirt_rig, new_id(), 1, power=DESIRED_POWER_OFF, create=True) for _ in range(6)]
    await asyncio.gather(*(make_so(libvirt_rig, wish) for wish in wishes))
    assert libvirt_rig.downloads == 1


async def test_the_guests_linux_boots_and_sees_an_openstack_cloud(libvirt_rig: LibvirtRig) -> None:
    instance_id = new_id()
    await run(libvirt_rig, instance_id)
    connection = libvirt.open(libvirt_rig.libvirtd.uri)
    domain = ET.fromstring(connection.lookupByUUIDString(instance_id).XMLDesc())
    connection.close()
    entries = {entry.get("name"): entry.text for entry in domain.iterfind("sysinfo/system/entry")}
    assert entries["manufacturer"] == "OpenStack Foundation"
    assert entries["product"] == "OpenStack Nova"
    assert entries["uuid"] == instance_id
    log = libvirt_rig.state.instance(instance_id).console_log
    await until(lambda: log.exists() and b"modules loaded" in log.read_bytes(), "Linux has booted")


async def test_the_screen_is_reached_without_a_port_of_the_host(libvirt_rig: LibvirtRig) -> None:
    instance_id = new_id()
    process = await run(libvirt_rig, instance_id)
    listening = [each for each in psutil.Process(process).net_connections("inet") if each.status == "LISTEN"]
    assert listening == []
    connection = libvirt.open(libvirt_rig.libvirtd.uri)
    screen = socket.socket(fileno=connection.lookupByUUIDString(instance_id).openGraphicsFD(0))
    connection.close()
    with screen:
        assert (await asyncio.to_thread(screen.recv, 12)).startswith(b"RFB ")


async def test_another_definition_changes_what_is_stored_and_not_what_runs(libvirt_rig: LibvirtRig) -> None:
    instance_id = new_id()
    process = await run(libvirt_rig, instance_id)
    await libvirt_rig.handler.ensure(desired(libvirt_rig, instance_id, 3, memory_mib=160))
    connection = libvirt.open(libvirt_rig.libvirtd.uri)
    domain = connection.lookupByUUIDString(instance_id)
    stored = ET.fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)).findtext("memory")
    live = ET.fromstring(domain.XMLDesc()).findtext("memory")
    connection.close()
    assert (stored, live) == (str(160 * 1024), str(96 * 1024))
    assert libvirt_rig.process(instance_id) == process
    assert "160" in libvirt_rig.state.instance(instance_id).libvirt_xml.read_text()


async def test_libvirtd_killed_and_back_the_guest_has_not_noticed(libvirt_rig: LibvirtRig) -> None:
    instance_id = new_id()
    process = await run(libvirt_rig, instance_id)
    libvirt_rig.libvirtd.kill()
    assert libvirt_rig.process(instance_id) == process
    waiting = asyncio.create_task(libvirt_rig.handler.ensure(desired(libvirt_rig, instance_id, 2)))
    await asyncio.sleep(0)
    await asyncio.to_thread(libvirt_rig.libvirtd.start)
    async with asyncio.timeout(PATIENCE_S):
        assert (await waiting).state == DOMAIN_STATE_RUNNING
    assert libvirt_rig.process(instance_id) == process
    assert await libvirt_rig.handler.known_objects() == {instance_id}


async def test_what_happens_while_libvirtd_is_away_is_told_when_it_is_back(libvirt_rig: LibvirtRig) -> None:
    instance_id = new_id()
    await run(libvirt_rig, instance_id)
    process = libvirt_rig.process(instance_id)
    libvirt_rig.libvirtd.kill()
    psutil.Process(process).kill()

    async def wait_for_change() -> None:
        async for changed in libvirt_rig.driver.changes():
            seen = await libvirt_rig.handler.observe(changed)
            if seen is not None and seen.facts.state != DOMAIN_STATE_RUNNING:
                return

    told = asyncio.create_task(wait_for_change())
    await asyncio.to_thread(libvirt_rig.libvirtd.start)
    async with asyncio.timeout(PATIENCE_S):
        await told


@pytest.fixture
def driver_for(libvirt_rig: LibvirtRig) -> Callable[[str], LibvirtDriver]:
    """Another driver on the same host, with little patience."""
    return lambda uri: LibvirtDriver(
        uri, state=libvirt_rig.state, images=libvirt_rig.images, virt_types=["qemu"], patience_s=0.5
    )


async def test_a_libvirtd_that_stays_away_is_no_failure_of_the_guest(
    driver_for: Callable[[str], LibvirtDriver],
) -> None:
    driver = driver_for("qemu:///system?socket=/nonexistent/libvirt-sock")
    await driver.open()
    with pytest.raises(Unavailable) as caught:
        await driver.observe(new_id())
    assert caught.value.reason == "HYPERVISOR_UNAVAILABLE"
    await driver.close()


async def test_a_libvirtd_that_hangs_is_waited_for_with_patience_and_used_when_it_wakes(
    libvirt_rig: LibvirtRig, driver_for: Callable[[str], LibvirtDriver]
) -> None:
    assert libvirt_rig.libvirtd.pid is not None
    libvirtd = psutil.Process(libvirt_rig.libvirtd.pid)
    libvirtd.suspend()
    try:
        driver = driver_for(libvirt_rig.libvirtd.uri)
        await driver.open()
        with pytest.raises(Unavailable):
            await driver.guests()
    finally:
        libvirtd.resume()
    async with asyncio.timeout(PATIENCE_S):
        assert await once_it_answers(driver.guests) == set()
    await driver.close()


async def once_it_answers(ask: Callable[[], Awaitable[T]]) -> T:
    while True:
        with contextlib.suppress(Unavailable):
            return await ask()


async def test_a_guest_that_does_not_listen_is_cut_off_when_its_time_is_over(
    libvirt_rig: LibvirtRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is asked again meanwhile: it may just have booted."""
    libvirt_rig.use_obedient_image()
    instance_id = new_id()
    await run(libvirt_rig, instance_id)
    pressed: list[str] = []
    press = guest.request_shutdown

    def count(connection: Any, instance_id: str) -> None:
        pressed.append(instance_id)
        press(connection, instance_id)

    monkeypatch.setattr(guest, "request_shutdown", count)
    monkeypatch.setattr(driver, "_PRESS_AGAIN_S", 0.1)
    began = time.monotonic()
    await libvirt_rig.driver.stop(instance_id, grace_s=3.0)
    assert time.monotonic() - began >= 3.0
    observed = await libvirt_rig.driver.observe(instance_id)
    assert observed is not None
    assert (observed.state, observed.shut_down_by_guest) == (DOMAIN_STATE_SHUTOFF, False)
    assert len(pressed) > 1 and set(pressed) == {instance_id}
