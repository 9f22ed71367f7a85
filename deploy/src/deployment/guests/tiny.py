"""The tiny guest: a cloud kernel and a busybox initramfs on a bootable disk of some 13 MB.

What it does, it says on its serial console in lines that start with `TINY`; see files/tiny/rc. A test runs
commands in it through POST http://<address>/cgi-bin/sh. That makes it a guest for tests, never for service.
"""

from __future__ import annotations

from pathlib import Path

from deployment.guests.commands import find_tool, require_tools, run
from deployment.guests.disk import DISK_TOOLS, write_bootable_qcow2
from deployment.guests.errors import GuestBuildError
from deployment.guests.initramfs import Entry, character_device, directory, file, pack, symlink
from deployment.guests.kernel import KERNEL_TOOLS, fetch_kernel
from deployment.guests.modules import Module, collect_modules
from deployment.guests.recipe import FILES_DIR, OnProgress, Recipe

DISK_SIZE_MIB = 48

# What a libvirt guest may be given: NIC, disks of both buses, balloon, randomness, power button.
MODULES = (
    "virtio_pci", "virtio_net", "virtio_blk", "virtio_scsi", "sd_mod", "virtio_balloon", "virtio_rng",
    "button", "evdev",
)  # fmt: skip

_FOLDERS = (
    "bin", "dev", "etc", "etc/acpi", "lib", "lib/modules", "mnt", "proc", "root", "run", "sys", "tmp", "var",
    "var/log", "var/run", "var/www", "var/www/cgi-bin",
)  # fmt: skip

# Name in files/tiny → path in the guest.
_SCRIPTS = {
    "rc": "etc/rc",
    "rc.shutdown": "etc/rc.shutdown",
    "metadata": "etc/metadata",
    "udhcpc.script": "etc/udhcpc.script",
    "watch": "etc/watch",
    "power": "etc/acpi/power",
    "cgi-shell": "var/www/cgi-bin/sh",
}
_CONFIGURATION = {"inittab": "etc/inittab", "acpid.conf": "etc/acpid.conf", "profile": "etc/profile"}

_TOOLS = {**DISK_TOOLS, **KERNEL_TOOLS, "busybox": "busybox-static"}


def guest_tree(busybox: bytes, applets: list[str], modules: list[Module]) -> list[Entry]:
    """The initramfs: busybox under the names of its applets, the modules and their order, our scripts."""
    sources = FILES_DIR / "tiny"
    return [
        *(directory(folder) for folder in _FOLDERS),
        # The kernel opens it as init's standard output before devtmpfs can be mounted.
        character_device("dev/console", 5, 1),
        file("bin/busybox", busybox, executable=True),
        *(symlink(f"bin/{applet}", "busybox") for applet in applets if applet != "busybox"),
        symlink("init", "bin/busybox"),
        symlink("sbin", "bin"),
        *(file(f"lib/modules/{module.name}.ko", module.content) for module in modules),
        file("lib/modules/order", "".join(f"{module.name}\n" for module in modules).encode()),
        *(file(path, (sources / name).read_bytes(), executable=True) for name, path in _SCRIPTS.items()),
        *(file(path, (sources / name).read_bytes()) for name, path in _CONFIGURATION.items()),
    ]


def _read_busybox() -> tuple[bytes, list[str]]:
    """The machine's busybox and its applets; it must be the static one: the guest has no libraries."""
    path = find_tool("busybox")
    assert path is not None  # require_tools has seen it
    content = path.read_bytes()
    remedy = "apt-get install --no-install-recommends busybox-static"
    if b"/lib64/ld-linux" in content:
        raise GuestBuildError(f"{path} is linked dynamically", remedy)
    return content, run([path, "--list"], timeout_s=10, remedy=remedy).split()


def assemble(work: Path, image: Path, on_progress: OnProgress) -> None:
    """See `Recipe.assemble`."""
    require_tools(_TOOLS)
    on_progress("tiny: fetching the kernel")
    kernel = fetch_kernel(work)
    busybox, applets = _read_busybox()
    on_progress(f"tiny: packing busybox and the modules of kernel {kernel.release}")
    boot = work / "root" / "boot"
    (boot / "extlinux").mkdir(parents=True)
    (boot / "initrd.gz").write_bytes(pack(guest_tree(busybox, applets, collect_modules(kernel.modules_dir, MODULES))))
    kernel.image.rename(boot / "vmlinuz")
    (boot / "extlinux" / "extlinux.conf").write_bytes((FILES_DIR / "tiny" / "extlinux.conf").read_bytes())
    on_progress("tiny: writing the disk")
    write_bootable_qcow2(work / "root", work, image, size_mib=DISK_SIZE_MIB, timeout_s=120)


RECIPE = Recipe(
    kind="tiny",
    login_user="root",
    sources=("disk.py", "initramfs.py", "kernel.py", "modules.py", "tiny.py", "files/tiny"),
    assemble=assemble,
)
