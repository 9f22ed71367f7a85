"""The Debian guest: Debian 12 with cloud-init and ssh, as a user of a cloud expects it.

Data sources: OpenStack (found by the SMBIOS strings of the machine), then Ec2. User `debian`, the injected
key, sudo without a password. It is trimmed for a quick start under emulation; see files/debian.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from deployment.guests.commands import contained, require_tools, run
from deployment.guests.disk import DISK_TOOLS, write_bootable_qcow2
from deployment.guests.recipe import FILES_DIR, OnProgress, Recipe

SUITE = "bookworm"
DISK_SIZE_MIB = 1024

PACKAGES = (
    # the system
    "systemd-sysv", "udev", "dbus", "linux-image-cloud-amd64", "initramfs-tools", "lz4", "zstd",
    # the network
    "iproute2", "iputils-ping", "netbase", "systemd-resolved", "ca-certificates", "curl",
    # the cloud's guest; growpart lives in cloud-guest-utils and calls sfdisk
    "cloud-init", "cloud-guest-utils", "fdisk", "openssh-server", "sudo",
)  # fmt: skip

_LEFT_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*")

# Work at each start, or in the background, that a guest of minutes or hours does not need.
_MASKED_UNITS = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
    "e2scrub_reap.service", "fstrim.timer", "systemd-binfmt.service", "systemd-pstore.service",
)  # fmt: skip
_ENABLED_UNITS = ("systemd-networkd.service", "ssh.service", "serial-getty@ttyS0.service")

_TOOLS = {**DISK_TOOLS, "mmdebstrap": "mmdebstrap", "chroot": "coreutils"}
# The suite, or what completes it, as a word of a line that is no comment.
_NAMES_SUITE = re.compile(rf"^[^#\n]*(?<!\S){SUITE}(?:-updates|-security)?(?!\S)", re.MULTILINE)


def apt_sources(files: Iterable[Path]) -> list[Path]:
    """Those of apt's source files (.list, .sources) that offer the guest's suite or its updates; sorted."""
    sources = (file for file in files if file.suffix in (".list", ".sources") and file.is_file())
    return sorted(file for file in sources if _NAMES_SUITE.search(file.read_text()))


def mmdebstrap_command(root: Path, initramfs_tools: Path, sources: Iterable[Path]) -> list[str]:
    """The command that makes the guest's tree in the folder `root`; see mmdebstrap(1).

    `initramfs_tools` is the folder that becomes /etc/initramfs-tools before the kernel's package makes its
    initramfs. Packages come from `sources`, of apt; if there are none, from Debian's default.
    """
    copy_in = f"copy-in {shlex.quote(str(initramfs_tools))} /etc"
    return [
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=minbase",
        f"--include={','.join(PACKAGES)}",
        '--aptopt=APT::Install-Recommends "false"',
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT),
        "--dpkgopt=force-unsafe-io",
        f"--setup-hook={copy_in}",
        SUITE,
        str(root),
        *map(str, sources),
    ]


def assemble(work: Path, image: Path, on_progress: OnProgress) -> None:
    """See `Recipe.assemble`."""
    require_tools(_TOOLS)
    root, initramfs_tools = work / "root", work / "initramfs-tools"
    _copy_files(FILES_DIR / "debian" / "initramfs-tools", initramfs_tools)
    on_progress(f"debian: installing {SUITE} (about a minute)")
    sources = apt_sources([Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")])
    command = mmdebstrap_command(root, initramfs_tools, sources)
    # Contained, since it mounts /proc, /sys and the machine's /dev in the tree, which will be removed.
    run(
        contained(command),
        timeout_s=1200,
        remedy="see that this machine reaches its package mirror (apt-get update)",
    )
    on_progress("debian: configuring")
    _configure(root)
    on_progress("debian: writing the disk")
    write_bootable_qcow2(root, work, image, size_mib=DISK_SIZE_MIB, timeout_s=600)


def _configure(root: Path) -> None:
    """Makes the tree a guest that no machine has started yet."""
    _copy_files(FILES_DIR / "debian" / "root", root)
    for verb, units in (("mask", _MASKED_UNITS), ("enable", _ENABLED_UNITS)):
        run(
            ["chroot", root, "systemctl", "--quiet", verb, *units],
            timeout_s=60,
            remedy="see what systemctl says; a unit may be gone from the suite",
        )
    # Empty, not absent: systemd then makes a new id at each first start, but applies no presets
    # (machine-id(5)).
    (root / "etc/machine-id").write_text("")
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()


def _copy_files(source: Path, target: Path) -> None:
    """Copies files' contents, not the owners and modes that a checkout of this repository happens to have."""
    for file in sorted(source.rglob("*")):
        if file.is_file():
            copy = target / file.relative_to(source)
            copy.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
            copy.chmod(0o644)


RECIPE = Recipe(
    kind="debian",
    login_user="debian",
    sources=("debian.py", "disk.py", "files/debian"),
    assemble=assemble,
)
