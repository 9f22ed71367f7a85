"""The state folder as the compute-agent uses it: in it a folder for each instance.

<state>/.cirra-state                    which state folder this is (core.agent.state_folder)
<state>/instances/_base/<sha256>        the image cache (compute_agent.images.cache)
<state>/instances/<uuid>/disk           qcow2 on a base
<state>/instances/<uuid>/disk.info      JSON: what the disk was made of
<state>/instances/<uuid>/libvirt.xml    the domain as it was last defined
<state>/instances/<uuid>/console.log    the serial console
<state>/instances/<uuid>/power.json     whether the guest itself has shut down
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from uuid import UUID

from compute_agent.files import sync_folder, write_atomically
from core.agent import state_folder
from core.agent.state_folder import FOLDER_MODE
from core.ids import parse_uuid

_INSTANCES = "instances"


@dataclass(frozen=True, slots=True)
class DiskInfo:
    """What a disk was made of (`disk.info`). Sizes in octets; `image_cached` as in `DomainObserved`."""

    format: str
    base_sha256: str
    base_format: str
    image_id: str
    size_bytes: int
    image_cached: bool


@dataclass(frozen=True)
class InstanceFolder:
    """The files of one instance; see the module."""

    path: Path

    @cached_property
    def disk(self) -> Path:
        return self.path / "disk"

    @cached_property
    def info(self) -> Path:
        return self.path / "disk.info"

    @property
    def console_log(self) -> Path:
        return self.path / "console.log"

    @property
    def libvirt_xml(self) -> Path:
        return self.path / "libvirt.xml"

    def create(self) -> None:
        """Makes the folder if it is absent."""
        self.path.mkdir(mode=FOLDER_MODE, exist_ok=True)

    def write_disk_info(self, info: DiskInfo) -> None:
        write_atomically(self.info, json.dumps(asdict(info)) + "\n")

    def disk_info(self) -> DiskInfo | None:
        try:
            text = self.info.read_text()
        except FileNotFoundError:
            return None
        return DiskInfo(**json.loads(text)) if text else None

    def console_tail(self, max_bytes: int) -> bytes:
        """The end of the console's log, and of the one before it (virtlogd rotates by size)."""
        tail = b""
        for name in ("console.log", "console.log.0"):
            if len(tail) < max_bytes:
                tail = _tail(self.path / name, max_bytes - len(tail)) + tail
        return tail

    def delete(self) -> None:
        """Removes the folder with all in it; absent is success."""
        if self.path.exists():
            shutil.rmtree(self.path)
            sync_folder(self.path.parent)


class StateFolder(state_folder.StateFolder):
    """`<state>`; see the module."""

    @property
    def instances(self) -> Path:
        return self.path / _INSTANCES

    @property
    def image_cache(self) -> Path:
        return self.instances / "_base"

    def initialise(self) -> None:
        """Nothing is made in a folder that is not the right one."""
        super().initialise()
        if self.problem() is None:
            self.instances.mkdir(exist_ok=True, mode=FOLDER_MODE)

    def instance(self, instance_id: str) -> InstanceFolder:
        """The folder of an instance, whether it exists or not. `ValueError` unless the id is a UUID."""
        return _instance_folder(self.path, instance_id)

    def instance_ids(self) -> set[str]:
        """The instances that have a folder; none when the state folder is missing."""
        if not self.instances.is_dir():
            return set()
        return {entry.name for entry in self.instances.iterdir() if parse_uuid(entry.name) and entry.is_dir()}


@lru_cache(maxsize=4096)
def _instance_folder(state: Path, instance_id: str) -> InstanceFolder:
    return InstanceFolder(state / _INSTANCES / str(UUID(instance_id)))


def _tail(file: Path, max_bytes: int) -> bytes:
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - max_bytes))
            return stream.read(max_bytes)
    except FileNotFoundError:
        return b""
