"""Control groups of a private libvirtd, below the caller's own ones: no limit on the caller is escaped.

Without a sub-tree of its own a libvirtd makes `/machine/qemu-N-name`, where two on one machine collide.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A mounted hierarchy: `mount` where it is, `own` the folder of the calling process in it."""

    mount: Path
    own: Path


def hierarchies(mountinfo: str, self_cgroup: str) -> list[Hierarchy]:
    """Those of this process, of either version, from /proc/self/mountinfo and /proc/self/cgroup; cgroups(7).

    Version 2 hands no controllers to a sub-group of a group that has processes: there guests run without limits.
    """
    paths = {}
    for line in self_cgroup.splitlines():
        _, controllers, own = line.split(":", 2)
        paths[controllers] = own
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        root, mount = before.split()[3:5]
        kind, _, options = after.split()[:3]
        if kind not in ("cgroup", "cgroup2"):
            continue
        path = _path_of(paths, kind, set(options.split(",")))
        if path is not None and PurePosixPath(path).is_relative_to(root):
            found.append(Hierarchy(Path(mount), Path(mount) / PurePosixPath(path).relative_to(root)))
    return found


def _path_of(paths: dict[str, str], kind: str, options: set[str]) -> str | None:
    if kind == "cgroup2":
        return paths.get("")
    return next((path for names, path in paths.items() if names and set(names.split(",")) <= options), None)


def create(parents: list[Hierarchy], name: str) -> dict[Path, Path]:
    """Makes the group `name` in each hierarchy: mount point → the group's folder. Idempotent."""
    groups = {}
    for hierarchy in parents:
        group = hierarchy.own / name
        group.mkdir(exist_ok=True)
        # A cpuset without processors or memory nodes takes no process; cpusets don't inherit them.
        for limit in ("cpuset.cpus", "cpuset.mems"):
            if (group / limit).exists():
                (group / limit).write_text((hierarchy.own / limit).read_text())
        groups[hierarchy.mount] = group
    return groups


def record(groups: dict[Path, Path], file: Path) -> None:
    """Writes what `create` gave, so that another process can join or remove it: a line for each group."""
    file.write_text("".join(f"{mount}\t{group}\n" for mount, group in groups.items()))


def recorded(file: Path) -> dict[Path, Path]:
    """What `record` wrote; nothing when there is no such file."""
    if not file.exists():
        return {}
    lines = (line.split("\t") for line in file.read_text().splitlines())
    return {Path(mount): Path(group) for mount, group in lines}


def join(groups: list[Path]) -> None:
    for group in groups:
        (group / "cgroup.procs").write_text(str(os.getpid()))


def processes(groups: list[Path]) -> set[int]:
    """The ids of all processes in the groups and below."""
    found: set[int] = set()
    for group in groups:
        for file in group.rglob("cgroup.procs"):
            with contextlib.suppress(FileNotFoundError):
                found.update(int(line) for line in file.read_text().split())
    return found


def remove(groups: list[Path]) -> None:
    """Removes the groups with all below them; absent is success. `OSError` (EBUSY) while they hold processes."""
    for group in groups:
        for folder in _deepest_first(group):
            with contextlib.suppress(FileNotFoundError):
                folder.rmdir()


def _deepest_first(folder: Path) -> Iterator[Path]:
    for path, _, _ in os.walk(folder, topdown=False):
        yield Path(path)
