"""NICs that come and go while a guest runs, on every driver; and what they are to QEMU."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cirra.agent.v1.desired_pb2 import DESIRED_POWER_OFF, DOMAIN_STATE_RUNNING, NicSpec
from core.agent.handler import AgentFailure
from core.ids import tap_device
from tests.contract.hypervisor.rigs import LibvirtRig, Rig, desired, make_so, new_id, until, until_up


def _nic(number: int) -> NicSpec:
    port_id = new_id()
    return NicSpec(port_id=port_id, mac_address=f"fa:16:3e:00:00:{number:02x}", device=tap_device(port_id), mtu=1450)


@pytest.fixture
def nics(request: pytest.FixtureRequest) -> Iterator[tuple[NicSpec, NicSpec]]:
    """Two ports; where guests are real, with their taps, as the net-agent makes them."""
    two = (_nic(1), _nic(2))
    real = "libvirt_rig" in request.node.name or "libvirt_rig" in request.fixturenames
    for nic in two if real else ():
        subprocess.run(["ip", "tuntap", "add", "dev", nic.device, "mode", "tap"], check=True)
        subprocess.run(["ip", "link", "set", nic.device, "up"], check=True)
    yield two
    for nic in two if real else ():
        subprocess.run(["ip", "link", "del", nic.device], check=True)


async def run(rig: Rig, instance_id: str, *nics: NicSpec) -> int:
    """A guest that is up: before that it hears of no NIC that shall go. Its process."""
    await make_so(rig, desired(rig, instance_id, 1, power=DESIRED_POWER_OFF, create=True, nics=nics))
    await rig.handler.ensure(desired(rig, instance_id, 2, nics=nics))
    await until_up(rig, instance_id)
    return rig.process(instance_id)


def ports(*nics: NicSpec) -> frozenset[str]:
    return frozenset(nic.port_id for nic in nics)


async def test_a_guest_that_runs_gets_a_nic_and_loses_one(rig: Rig, nics: tuple[NicSpec, NicSpec]) -> None:
    first, second = nics
    instance_id = new_id()
    process = await run(rig, instance_id, first)
    assert await rig.driver.nics(instance_id) == ports(first)
    for generation in (3, 3, 4):
        facts = await rig.handler.ensure(desired(rig, instance_id, generation, nics=[first, second]))
        assert facts.state == DOMAIN_STATE_RUNNING
        assert await rig.driver.nics(instance_id) == ports(first, second)
    for generation in (5, 5):
        await rig.handler.ensure(desired(rig, instance_id, generation, nics=[second]))
        assert await rig.driver.nics(instance_id) == ports(second)
    await rig.start_agent()
    await rig.handler.ensure(desired(rig, instance_id, 5, nics=[second]))
    assert await rig.driver.nics(instance_id) == ports(second)
    assert rig.process(instance_id) == process, "it was never restarted"


async def test_a_guest_that_is_off_gets_it_when_it_starts(rig: Rig, nics: tuple[NicSpec, NicSpec]) -> None:
    instance_id = new_id()
    await run(rig, instance_id, nics[0])
    await rig.handler.ensure(desired(rig, instance_id, 3, power=DESIRED_POWER_OFF, nics=nics))
    assert await rig.driver.nics(instance_id) == frozenset()
    await rig.handler.ensure(desired(rig, instance_id, 4, nics=nics))
    assert await rig.driver.nics(instance_id) == ports(*nics)


@pytest.mark.root
async def test_the_tap_is_opened_and_left_behind(libvirt_rig: LibvirtRig, nics: tuple[NicSpec, NicSpec]) -> None:
    instance_id = new_id()
    await run(libvirt_rig, instance_id)
    carrier = Path(f"/sys/class/net/{nics[0].device}/carrier")
    await libvirt_rig.handler.ensure(desired(libvirt_rig, instance_id, 3, nics=nics[:1]))
    await until(lambda: carrier.read_text().strip() == "1", "QEMU has opened the tap")
    await libvirt_rig.handler.ensure(desired(libvirt_rig, instance_id, 4))
    await until(lambda: carrier.read_text().strip() == "0", "QEMU has let go of it")


@pytest.mark.root
async def test_a_guest_without_a_system_keeps_its_nic(libvirt_rig: LibvirtRig, nics: tuple[NicSpec, NicSpec]) -> None:
    """Nobody in it listens; what is then said can be acted on, and the guest runs on."""
    libvirt_rig.use_obedient_image()
    libvirt_rig.driver._release_patience_s = 1.0
    instance_id = new_id()
    await make_so(libvirt_rig, desired(libvirt_rig, instance_id, 1, create=True, nics=nics[:1]))
    process = libvirt_rig.process(instance_id)
    with pytest.raises(AgentFailure) as caught:
        await libvirt_rig.handler.ensure(desired(libvirt_rig, instance_id, 2))
    assert caught.value.reason == "NIC_NOT_RELEASED" and caught.value.remedy
    assert libvirt_rig.process(instance_id) == process
    await libvirt_rig.handler.ensure(desired(libvirt_rig, instance_id, 3, nics=nics[:1]))
    assert await libvirt_rig.driver.nics(instance_id) == ports(nics[0])
