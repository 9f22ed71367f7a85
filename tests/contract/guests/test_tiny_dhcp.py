"""What the tiny guest makes of a DHCP lease: its script, run in its own tree with its own busybox."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from deployment.guests.commands import find_tool, run
from deployment.guests.initramfs import Entry
from deployment.guests.tiny import guest_tree

pytestmark = pytest.mark.root

LEASE = {
    "ip": "10.20.0.7",
    "mask": "24",
    "router": "10.20.0.1 10.20.0.254",
    "dns": "10.20.0.2 10.20.0.3",
    "domain": "cloud.test",
    "lease": "3600",
    "serverid": "10.20.0.2",
}
# Namespaces for network and host name, since the script changes both; a folder as root, since it writes files.
IN_THE_GUEST = """\
set -e
for interface in eth0 eth1; do
    ip link add $interface type veth peer name peer-$interface
    ip link set peer-$interface up
done
exec chroot "$1" /bin/sh -c "$2"
"""


def unpack(entry: Entry, root: Path) -> None:
    path = root / entry.path
    if stat.S_ISDIR(entry.mode):
        path.mkdir()
    elif stat.S_ISLNK(entry.mode):
        path.symlink_to(entry.content.decode())
    else:  # the console too is a plain file here, so that it can be read
        path.write_bytes(entry.content)
        path.chmod(entry.mode & 0o777)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The guest's tree, without modules."""
    busybox = find_tool("busybox")
    assert busybox is not None
    applets = run([busybox, "--list"], timeout_s=10, remedy="install busybox-static").split()
    for entry in guest_tree(busybox.read_bytes(), applets, []):
        unpack(entry, tmp_path)
    return tmp_path


def in_guest(root: Path, script: str) -> list[str]:
    """The lines that `script` prints, which may call `lease INTERFACE EVENT NAME=VALUE …`."""
    prelude = """\
export PATH=/bin
lease() { i=$1; e=$2; shift 2; env -i PATH=/bin interface=$i "$@" /etc/udhcpc.script $e; }
"""
    argv: list[str | Path] = ["unshare", "--net", "--uts", "sh", "-c", IN_THE_GUEST, "sh", root, prelude + script]
    output = run(argv, timeout_s=90, remedy="needs root and network namespaces")
    return [line.rstrip() for line in output.splitlines()]


def lease(interface: str, options: Mapping[str, str], *, event: str = "bound") -> str:
    words = " ".join(f"{name}='{value}'" for name, value in options.items())
    return f"lease {interface} deconfig\nlease {interface} {event} {words}\n"


def routes(root: Path, script: str) -> set[str]:
    """The routes of the guest without their attributes (onlink, linkdown, scope)."""
    lines = in_guest(root, f"{script}\nip route")
    return {" ".join(line.replace("onlink", "").replace("linkdown", "").split()) for line in lines}


def test_the_router_is_the_default_route(root: Path) -> None:
    assert "default via 10.20.0.1 dev eth0" in routes(root, lease("eth0", LEASE))


def test_classless_routes_take_the_place_of_the_router(root: Path) -> None:
    static = "169.254.169.254/32 10.20.0.2 0.0.0.0/0 10.20.0.9 10.30.0.0/16 0.0.0.0"
    found = routes(root, lease("eth0", LEASE | {"staticroutes": static}))
    assert "default via 10.20.0.9 dev eth0" in found
    assert "169.254.169.254 via 10.20.0.2 dev eth0" in found
    assert "10.30.0.0/16 dev eth0 scope link" in found
    assert not any("via 10.20.0.1 " in route for route in found)


def test_the_first_interface_keeps_the_default_route(root: Path) -> None:
    second = LEASE | {"ip": "10.40.0.7", "router": "10.40.0.1"}
    found = routes(root, lease("eth0", LEASE) + lease("eth1", second))
    assert "default via 10.20.0.1 dev eth0" in found
    assert "default via 10.40.0.1 dev eth1 metric 1" in found


def test_address_mtu_host_name_and_resolver_are_set(root: Path) -> None:
    script = lease("eth0", LEASE | {"mtu": "1450", "hostname": "leased"})
    lines = in_guest(root, f"{script}\nip -4 addr show eth0; hostname")
    text = "\n".join(lines)
    assert "inet 10.20.0.7/24" in text
    assert "mtu 1450" in text
    assert lines[-1] == "leased"
    assert (root / "etc/resolv.conf").read_text() == ("search cloud.test\nnameserver 10.20.0.2\nnameserver 10.20.0.3\n")
    assert (root / "run/hostname-from-dhcp").exists()


def test_a_renewal_keeps_the_address_and_reports_itself(root: Path) -> None:
    script = lease("eth0", LEASE) + "lease eth0 renew ip=10.20.0.7 mask=24 router=10.20.0.1 lease=60\n"
    assert "inet 10.20.0.7/24" in "\n".join(in_guest(root, f"{script}\nip -4 addr show eth0"))
    assert "TINY dhcp eth0 event=renew ip=10.20.0.7" in (root / "dev/console").read_text()
