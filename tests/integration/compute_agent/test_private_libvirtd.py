"""The libvirtd that Cirra brings along: beside the machine's own, and gone without a trace."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import libvirt
import psutil
import pytest

from deployment.libvirtd import PrivateLibvirtd
from tests.harness.log_watch import LogWatch

pytestmark = pytest.mark.root
PATIENCE_S = 60.0


@pytest.fixture
def root(log_watch: LogWatch) -> Iterator[Path]:
    """A folder whose path is short enough for a socket."""
    with log_watch.folder("cirra-lv-", "/tmp") as folder:
        yield folder
        PrivateLibvirtd(folder, uuid4()).stop(destroy_guests=True)


@pytest.fixture
def other_root(root: Path) -> Path:
    return root / "b"


def run_guest(daemon: PrivateLibvirtd, name: str = "guest") -> int:
    """A guest without anything; its process."""
    connection = libvirt.open(daemon.uri)
    connection.createXML(
        f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>16</memory>"
        "<os><type arch='x86_64'>hvm</type></os></domain>"
    )
    connection.close()
    return daemon.guest_pids()[-1]


def names(daemon: PrivateLibvirtd) -> list[str]:
    connection = libvirt.open(daemon.uri)
    found = [domain.name() for domain in connection.listAllDomains()]
    connection.close()
    return found


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"it did not come true: {what}"
        time.sleep(0.02)


def footprint() -> dict[str, set[str]]:
    """What a libvirtd could leave on the machine; other tests' things come and go and are left out."""
    links = subprocess.run(["ip", "-o", "link"], check=True, capture_output=True, text=True).stdout
    return {
        "mounts": {line for line in Path("/proc/self/mounts").read_text().splitlines() if "libvirt" in line},
        "links": {line.split(":")[1] for line in links.splitlines() if "virbr" in line},
    }


def traces(daemon: PrivateLibvirtd) -> list[str]:
    """Processes and control groups that belong to one daemon's folder or identity."""
    processes = [
        " ".join(process.info["cmdline"])
        for process in psutil.process_iter(["cmdline"])
        if str(daemon.layout.root) in " ".join(process.info["cmdline"] or [])
    ]
    groups = [str(path) for path in Path("/sys/fs/cgroup").rglob(f"cirra-libvirt-{daemon.host_uuid}")]
    return processes + groups


def test_it_comes_up_answers_and_leaves_nothing(root: Path) -> None:
    before = footprint()
    daemon = PrivateLibvirtd(root, uuid4())
    daemon.start()
    assert footprint() == before
    process = run_guest(daemon)
    assert names(daemon) == ["guest"]
    assert any(str(daemon.host_uuid) in trace for trace in traces(daemon)), "its guests are in its own groups"
    assert f"cirra-libvirt-{daemon.host_uuid}" in Path(f"/proc/{process}/cgroup").read_text()
    assert daemon.stop(destroy_guests=True) == []
    assert not psutil.pid_exists(process)
    until(lambda: traces(daemon) == [], "nothing is left of it")
    assert footprint() == before


def test_stopping_twice_and_starting_twice(root: Path) -> None:
    daemon = PrivateLibvirtd(root, uuid4())
    daemon.start()
    pid = daemon.pid
    daemon.start()
    assert daemon.pid == pid is not None
    assert daemon.stop() == []
    assert daemon.pid is None
    assert daemon.stop() == []


def test_guests_outlive_it_and_are_met_again(root: Path) -> None:
    daemon = PrivateLibvirtd(root, uuid4())
    daemon.start()
    process = run_guest(daemon)
    daemon.kill()
    assert daemon.guest_pids() == [process]
    later = PrivateLibvirtd(root, daemon.host_uuid)
    later.start()
    assert names(later) == ["guest"]
    assert later.stop() == [process], "they go on, and it says so"
    later.start()
    assert names(later) == ["guest"]
    assert later.guest_pids() == [process]


def test_two_on_one_machine_know_nothing_of_each_other(root: Path, other_root: Path) -> None:
    one, two = PrivateLibvirtd(root, uuid4()), PrivateLibvirtd(other_root, uuid4())
    one.start()
    two.start()
    try:
        processes = {run_guest(one), run_guest(two)}
        assert len(processes) == 2
        assert names(one) == names(two) == ["guest"]
        assert two.stop(destroy_guests=True) == []
        assert names(one) == ["guest"]
        assert set(one.guest_pids()) < processes
    finally:
        two.stop(destroy_guests=True)


def test_it_can_live_in_a_network_of_its_own(root: Path) -> None:
    name = f"lv-{uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "tuntap", "add", "dev", "tap-inside", "mode", "tap"], check=True)
        daemon = PrivateLibvirtd(root, uuid4(), network_namespace=Path("/run/netns") / name)
        daemon.start()
        connection = libvirt.open(daemon.uri)
        connection.createXML(
            "<domain type='qemu'><name>guest</name><memory unit='MiB'>16</memory>"
            "<os><type arch='x86_64'>hvm</type></os><devices><interface type='ethernet'>"
            "<target dev='tap-inside' managed='no'/><model type='virtio'/></interface></devices></domain>"
        )
        connection.close()
        process = daemon.guest_pids()[0]
        assert Path(f"/proc/{process}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
        assert f"cirra-libvirt-{daemon.host_uuid}" in Path(f"/proc/{process}/cgroup").read_text()
        daemon.stop(destroy_guests=True)
        until(lambda: traces(daemon) == [], "nothing is left of it")
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def test_a_root_too_long_for_a_socket_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match="too long"):
        PrivateLibvirtd(root / ("x" * 100), UUID(int=1)).start()
