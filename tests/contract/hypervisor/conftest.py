from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from deployment import guests
from deployment.guests import GuestImage
from deployment.libvirtd import PrivateLibvirtd
from tests.contract.hypervisor.rigs import LibvirtRig, Rig, SimulatedRig
from tests.harness.log_watch import LogWatch


@pytest.fixture(scope="session")
def libvirtd(log_watch: LogWatch) -> Iterator[PrivateLibvirtd]:
    """A libvirtd for the session."""
    with log_watch.folder("cirra-libvirtd-", "/tmp") as root:
        daemon = PrivateLibvirtd(root, uuid4())
        daemon.start()
        yield daemon
        daemon.stop(destroy_guests=True)


@pytest.fixture(scope="session")
def tiny_image() -> GuestImage:
    return guests.build("tiny")


@pytest.fixture
async def libvirt_rig(libvirtd: PrivateLibvirtd, tiny_image: GuestImage, tmp_path: Path) -> AsyncIterator[LibvirtRig]:
    rig = LibvirtRig(libvirtd, tmp_path, tiny_image)
    await rig.start_agent()
    yield rig
    # A test may have left it killed.
    libvirtd.start()
    await rig.close()


@pytest.fixture
async def simulated_rig(tmp_path: Path) -> AsyncIterator[SimulatedRig]:
    rig = SimulatedRig(tmp_path)
    await rig.start_agent()
    yield rig
    await rig.close()


@pytest.fixture(params=["simulated_rig", pytest.param("libvirt_rig", marks=pytest.mark.root)])
def rig(request: pytest.FixtureRequest) -> Rig:
    chosen: Rig = request.getfixturevalue(request.param)
    return chosen
