"""The tiny guest as it leaves the builder: it boots from its disk, reports, obeys, and switches itself off."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from deployment.guests import GuestImage
from tests.contract.guests.qemu import RunningGuest, booted

# A boot takes 5 s on a machine that has nothing else to do.
BOOT_S = 180
POWER_OFF_S = 120

pytestmark = pytest.mark.root

META_DATA = {"uuid": "0b5e", "name": "guest", "hostname": "named-by-metadata", "meta": {"role": "test"}}
METADATA = {
    "/latest/meta-data/instance-id": "i-0000002a",
    "/latest/meta-data/public-keys/0/openssh-key": "ssh-ed25519 AAAA user@host",
    "/openstack/latest/meta_data.json": json.dumps(META_DATA),
    "/latest/user-data": "#!/bin/sh\necho it is $((40 + 2))\nhostname\nexit 7\n",
}


@pytest_asyncio.fixture
async def guest(tiny_image: GuestImage, tmp_path: Path) -> AsyncIterator[RunningGuest]:
    async with booted(tiny_image, tmp_path, METADATA) as running:
        yield running


def test_the_image_is_small_and_nothing_stays_mounted(tiny_image: GuestImage) -> None:
    assert 8_000_000 < tiny_image.size_bytes < 17_000_000
    assert tiny_image.virtual_size_bytes == 48 * 1024 * 1024
    cache_dir = str(tiny_image.path.parent)
    assert [part.mountpoint for part in psutil.disk_partitions(all=True) if cache_dir in part.mountpoint] == []
    backing_files = [file.read_text() for file in Path("/sys/block").glob("loop*/loop/backing_file")]
    assert [file for file in backing_files if cache_dir in file] == []


async def test_it_boots_reports_its_metadata_obeys_and_powers_off(guest: RunningGuest) -> None:
    await guest.wait_for_line("TINY READY", BOOT_S)
    await guest.wait_for_line("TINY user-script exited with 7", BOOT_S)

    assert "ip=169.254.0.15 mask=16" in await guest.wait_for_line("TINY dhcp eth0 event=bound", 0)
    assert "TINY metadata instance-id i-0000002a" in guest.console
    assert "TINY metadata public-key ssh-ed25519 AAAA user@host" in guest.console
    printed = await guest.wait_for_line("TINY metadata meta_data.json ", 0)
    assert json.loads(printed.partition("meta_data.json ")[2]) == META_DATA
    assert "TINY metadata user-data echo it is $((40 + 2))" in guest.console
    assert "TINY user-script it is 42" in guest.console
    assert "TINY user-script named-by-metadata" in guest.console
    assert "TINY disk vda 98304 sectors" in guest.console

    assert await guest.run_shell("hostname; id -u; echo $((6 * 7))") == "named-by-metadata\n0\n42\n"
    # The file is empty while it is written.
    first_beat = int(await guest.run_shell("until grep . /run/beat; do usleep 100000; done"))
    later = f'until [ "$(cat /run/beat)" -gt {first_beat} ] 2>/dev/null; do usleep 100000; done; echo later'
    assert await guest.run_shell(later) == "later\n"

    await guest.press_power_button()
    assert await guest.wait_for_end(POWER_OFF_S) == 0
    assert "TINY power button" in guest.console
    assert "TINY going down" in guest.console


async def test_without_metadata_it_says_so_and_gets_ready(tiny_image: GuestImage, tmp_path: Path) -> None:
    async with booted(tiny_image, tmp_path, {}) as guest:
        failure = await guest.wait_for_line("TINY metadata instance-id", BOOT_S)
        assert "ERROR wget: server returned error: HTTP/1.1 404 Not Found" in failure
        await guest.wait_for_line("TINY READY", BOOT_S)
        assert await guest.run_shell("hostname") == "tiny\n"
