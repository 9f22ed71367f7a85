"""The Debian guest with one data source forced: where its metadata comes from is no matter of detection then."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

from deployment import guests
from deployment.guests import GuestImage
from deployment.guests.image import sha256_of

# As in deployment.guests.disk: the one partition, an ext4.
_PARTITION_OFFSET_BYTES = 1024 * 1024
_CONFIG = "/etc/cloud/cloud.cfg.d/99_forced.cfg"


def forced(data_source: str, folder: Path) -> GuestImage:
    """A copy of the image in *folder*. cloud-init looks for no data source but this. Blocks."""
    debian = guests.build("debian")
    raw, qcow2, config = (folder / f"{data_source}.{suffix}" for suffix in ("raw", "qcow2", "cfg"))
    config.write_text(f"datasource_list: [{data_source}]\n")
    _run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(debian.path), str(raw))
    filesystem = f"{raw}?offset={_PARTITION_OFFSET_BYTES}"
    _run("debugfs", "-w", "-R", f"write {config} {_CONFIG}", filesystem)
    # debugfs ends well whether or not it wrote.
    assert _run("debugfs", "-R", f"cat {_CONFIG}", filesystem) == config.read_text()
    _run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(qcow2))
    raw.unlink()
    return dataclasses.replace(debian, path=qcow2, sha256=sha256_of(qcow2), size_bytes=qcow2.stat().st_size)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
