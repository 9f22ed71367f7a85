"""The guest's kernel: Debian's cloud flavour, fetched by apt, unpacked by dpkg-deb, never installed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from deployment.guests.commands import run
from deployment.guests.errors import GuestBuildError

KERNEL_TOOLS = {"apt-cache": "apt", "apt-get": "apt", "dpkg-deb": "dpkg"}

META_PACKAGE = "linux-image-cloud-amd64"
_REMEDY = f"apt-get update, then see that `apt-cache policy {META_PACKAGE}` names a candidate"


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked kernel: `image` is the bzImage, `modules_dir` is /lib/modules/<release>."""

    release: str
    image: Path
    modules_dir: Path


def versioned_package(meta_package_record: str) -> str:
    """The package behind the meta package, from the Depends field of its record (deb-control(5)).

    Raises `GuestBuildError` if the record names no kernel.
    """
    pattern = r"^Depends:.*?\b(linux-image-\d[^\s,(|]*)"
    found = re.search(pattern, meta_package_record, re.MULTILINE)
    if found is None:
        raise GuestBuildError(f"the record of {META_PACKAGE} depends on no kernel", _REMEDY)
    return found.group(1)


def fetch_kernel(work: Path) -> Kernel:
    """Downloads the newest cloud kernel that apt knows into the folder `work`; raises `GuestBuildError`."""
    record = run(["apt-cache", "show", "--no-all-versions", META_PACKAGE], timeout_s=60, remedy=_REMEDY)
    package = versioned_package(record)
    download, unpacked = work / "kernel-package", work / "kernel"
    download.mkdir()
    # As root, since the sandbox user of apt may not write into `work`.
    run(
        ["apt-get", "--quiet=2", "-o", "APT::Sandbox::User=root", "download", package],
        timeout_s=600,
        remedy=f"see that this machine reaches its package mirror; {_REMEDY}",
        cwd=download,
    )
    (archive,) = download.glob("*.deb")
    run(["dpkg-deb", "--extract", archive, unpacked], timeout_s=120, remedy="see what dpkg-deb says")
    return unpacked_kernel(unpacked)


def unpacked_kernel(root: Path) -> Kernel:
    """The one kernel below `root`; raises `GuestBuildError` if there is none, or more."""
    images = sorted((root / "boot").glob("vmlinuz-*"))
    if len(images) != 1:
        raise GuestBuildError(f"{len(images)} kernels in {root}/boot, where one should be", _REMEDY)
    release = images[0].name.removeprefix("vmlinuz-")
    lib = "lib/modules" if (root / "lib/modules").is_dir() else "usr/lib/modules"
    return Kernel(release=release, image=images[0], modules_dir=root / lib / release)
