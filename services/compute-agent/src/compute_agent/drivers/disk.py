"""An instance's disk as its folder tells it."""

from __future__ import annotations

from compute_agent.drivers.base import Disk
from compute_agent.instances import InstanceFolder


def disk_in(folder: InstanceFolder) -> Disk | None:
    """The disk; None when its file is gone. Blocks."""
    if not folder.disk.is_file():
        return None
    info = folder.disk_info()
    return Disk(image_cached=info is not None and info.image_cached)
