"""A bootable disk from a folder: MBR, one ext4 partition, extlinux; then qcow2.

Nothing is ever mounted where others see it: the one mount that extlinux needs lives in a mount namespace that
ends with its process, and with it the mount and the loop device, whatever happens.
"""

from __future__ import annotations

from pathlib import Path

from deployment.guests.commands import contained, run
from deployment.guests.errors import GuestBuildError

DISK_TOOLS = {
    "extlinux": "extlinux",
    "mke2fs": "e2fsprogs",
    "mount": "mount",
    "qemu-img": "qemu-utils",
    "setpriv": "util-linux",
    "sfdisk": "fdisk",
    "unshare": "util-linux",
}

_MIB = 1024 * 1024
_PARTITION_OFFSET_BYTES = _MIB
_SECTOR_BYTES = 512
# The code part of a master boot record; the partition table and the disk's id follow it.
_MBR_CODE_BYTES = 440
_MBR_CODE_FILES = (Path("/usr/lib/EXTLINUX/mbr.bin"), Path("/usr/lib/syslinux/mbr/mbr.bin"))

# Named one by one, since the host's mke2fs.conf(5) may turn on what the boot loader cannot read (64bit) or an
# older guest kernel cannot mount. resize_inode lets the guest grow the file system while it is mounted.
_EXT4_FEATURES = (
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,flex_bg,sparse_super,large_file,"
    "huge_file,uninit_bg,dir_nlink,extra_isize"
)

_INSTALL_EXTLINUX = """\
set -eu
mount -o loop,offset="$1" "$2" "$3"
extlinux --install "$3/boot/extlinux"
umount "$3"
"""


def write_bootable_qcow2(root: Path, work: Path, qcow2: Path, *, size_mib: int, timeout_s: float) -> None:
    """Makes `qcow2`, a disk of `size_mib` MiB which holds the tree `root` and boots from a BIOS.

    `root` must hold /boot/extlinux/extlinux.conf; its files keep their owners and modes. `work` is a folder
    for what is needed on the way. `timeout_s` bounds each of the two long steps. Raises `GuestBuildError`.
    """
    raw = work / "disk.raw"
    _write_partition_table(raw, size_mib)
    _write_boot_code(raw)
    _write_filesystem(root, raw, size_mib, timeout_s)
    _install_extlinux(raw, work)
    run(
        ["qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", raw, qcow2],
        timeout_s=timeout_s,
        remedy="check that the cache's file system has space left",
    )
    raw.unlink()


def _write_partition_table(raw: Path, size_mib: int) -> None:
    """One Linux partition (type 83), bootable, from 1 MiB to the end."""
    with raw.open("wb") as file:
        file.truncate(size_mib * _MIB)
    run(
        ["sfdisk", "--quiet", "--label", "dos", raw],
        stdin=f"start={_PARTITION_OFFSET_BYTES // _SECTOR_BYTES},type=83,bootable\n",
        timeout_s=30,
        remedy="see what sfdisk says",
    )


def _write_boot_code(raw: Path) -> None:
    """Puts in the code that starts the active partition's boot sector."""
    found = next((file for file in _MBR_CODE_FILES if file.is_file()), None)
    if found is None:
        raise GuestBuildError(
            f"no master boot record in any of {', '.join(map(str, _MBR_CODE_FILES))}",
            "apt-get install --no-install-recommends extlinux syslinux-common",
        )
    with raw.open("r+b") as file:
        file.write(found.read_bytes()[:_MBR_CODE_BYTES])


def _write_filesystem(root: Path, raw: Path, size_mib: int, timeout_s: float) -> None:
    """An ext4 made straight from the tree, without a mount (mke2fs -d).

    Blocks of 4 KiB: extlinux cannot boot from smaller ones. Inode tables are written now (the conversion to
    qcow2 drops the zeroes), or else every guest's kernel would write them into its own overlay.
    """
    partition_kib = (size_mib * _MIB - _PARTITION_OFFSET_BYTES) // 1024
    extended = f"offset={_PARTITION_OFFSET_BYTES},lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    run(
        ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-O", _EXT4_FEATURES, "-L", "root",
         "-d", root, "-E", extended, raw, f"{partition_kib}k"],
        timeout_s=timeout_s,
        remedy="if the tree doesn't fit, raise the recipe's disk size",
    )  # fmt: skip


def _install_extlinux(raw: Path, work: Path) -> None:
    mount_point = work / "mount"
    mount_point.mkdir()
    run(
        contained(["sh", "-c", _INSTALL_EXTLINUX, "sh", str(_PARTITION_OFFSET_BYTES), raw, mount_point]),
        timeout_s=60,
        remedy="this needs a kernel with loop devices and ext4, and the right to mount (in a container: --privileged)",
    )
    mount_point.rmdir()
