"""What a testbed leaves on the machine: found by its marks, so that others on the machine don't matter."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from deployment.testbed.site import Site

_KINDS = ("cgroup", "mnt", "net", "pid", "uts")
_CGROUPS = Path("/sys/fs/cgroup")


def namespaces_of(site: Site) -> set[str]:
    """ "net:[4026532008]" and so on: those that the hosts have to themselves."""
    ours = set(_namespaces(os.getpid()))
    return {name for host in site.hosts if (pid := host.first_process) for name in _namespaces(pid)} - ours


def uptime_s() -> float:
    """Of this machine, by which processes' beginnings are told, too."""
    return float(Path("/proc/uptime").read_text().split()[0])


def traces(marks: Sequence[str], namespaces: Iterable[str], begun_before_s: float) -> Mapping[str, list[str]]:
    """What there is now, by kind, of whatever has one of *marks* in its name or is in one of *namespaces*.

    begun_before_s: `uptime_s` when the namespaces were there. Once they are gone, the kernel gives their numbers to the
    next ones that anybody makes on the machine: a process that has begun since then is somebody else's.
    """
    known = set(namespaces)
    return {
        "processes": [
            line
            for pid, line in _command_lines()
            if _marked(line, marks) or (known & set(_namespaces(pid)) and _began_s(pid) < begun_before_s)
        ],
        "network namespaces": [path.name for path in Path("/run/netns").iterdir() if _marked(path.name, marks)],
        "mounts": [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if _marked(line, marks)],
        "control groups": [path for path, _, _ in os.walk(_CGROUPS) if _marked(path, marks)],
    }


def _marked(text: str, marks: Sequence[str]) -> bool:
    return any(mark in text for mark in marks)


def _command_lines() -> Iterator[tuple[int, str]]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except (FileNotFoundError, ProcessLookupError):
            continue
        # Who runs the test names the folder, too.
        if int(folder.name) != os.getpid():
            yield int(folder.name), line


def _began_s(pid: int) -> float:
    """In seconds of this machine's uptime (proc_pid_stat(5), field 22); one that is gone has begun nothing."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return float("inf")
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _namespaces(pid: int) -> list[str]:
    try:
        return [os.readlink(f"/proc/{pid}/ns/{kind}") for kind in _KINDS]
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        # Gone meanwhile, or the machine's own.
        return []
