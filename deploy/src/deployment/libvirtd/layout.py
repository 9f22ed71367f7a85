"""The folder of a private libvirtd, and its configuration files: both pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

# sockaddr_un(7): 108 octets with the final zero.
_LONGEST_SOCKET_PATH = 107

_QEMU_CONF = """\
# Guests are root's own processes: the folders that hold their disks are root's as well.
user = "root"
group = "root"
security_driver = "none"
dynamic_ownership = 0
remember_owner = 0
vnc_listen = "127.0.0.1"
stdio_handler = "logd"
"""

_VIRTLOGD_CONF = """\
log_outputs = "3:file:/var/log/libvirt/virtlogd.log"
"""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a private libvirtd keeps its things: in `root`, seen by it at libvirt's usual paths."""

    root: Path

    @property
    def binds(self) -> dict[Path, Path]:
        """Folder below `root` → where the daemons see it."""
        return {
            self.root / "etc": Path("/etc/libvirt"),
            self.root / "lib": Path("/var/lib/libvirt"),
            self.root / "log": Path("/var/log/libvirt"),
            self.root / "cache": Path("/var/cache/libvirt"),
            self.run: Path("/run/libvirt"),
        }

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def socket(self) -> Path:
        return self.run / "libvirt-sock"

    @property
    def log(self) -> Path:
        return self.root / "log" / "libvirtd.log"

    @property
    def cgroups_record(self) -> Path:
        """Which control groups are ours (`cgroups.record`)."""
        return self.root / "cgroups"

    def pid_file(self, daemon: str) -> Path:
        return self.run / f"{daemon}.pid"

    def guest_pid_files(self) -> list[Path]:
        return sorted((self.run / "qemu").glob("*.pid"))

    def prepare(self, host_uuid: UUID) -> None:
        """Makes the folders and writes the configuration; nothing of the machine's own is copied, so that
        neither its networks nor its autostarted guests come up a second time.

        `ValueError` when clients could not reach the socket because its path is too long.
        """
        if len(str(self.socket)) > _LONGEST_SOCKET_PATH:
            raise ValueError(f"{self.socket} is too long for a unix socket: choose a shorter root")
        for folder in self.binds:
            folder.mkdir(parents=True, exist_ok=True, mode=0o711)
        etc = self.root / "etc"
        (etc / "libvirtd.conf").write_text(libvirtd_conf(host_uuid))
        (etc / "qemu.conf").write_text(_QEMU_CONF)
        (etc / "virtlogd.conf").write_text(_VIRTLOGD_CONF)


def libvirtd_conf(host_uuid: UUID) -> str:
    """libvirtd.conf: a socket for root alone, no TCP, and the identity by which migration knows a host."""
    return f"""\
host_uuid = "{host_uuid}"
listen_tls = 0
listen_tcp = 0
unix_sock_group = "root"
unix_sock_ro_perms = "0700"
unix_sock_rw_perms = "0700"
auth_unix_ro = "none"
auth_unix_rw = "none"
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
"""
