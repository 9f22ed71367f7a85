"""A host is powered on: `python -m deployment.testbed.boot SPEC` makes its namespaces, and becomes its first process.

Returns 0 once that has all it needs. A process stays behind, outside, until the host's last one has ended: it reaps
the first, whose end is the host's (pid_namespaces(7)): the kernel then kills everything in it at once.

Inside, the machine's programs are seen, and nothing else of it: /run is empty at each boot, /var/lib/cirra is the
host's own disk, and the deployment's folder is hidden, so that a host has what came to it by the network alone.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from deployment import namespaces
from deployment.libvirtd import cgroups

DISK = Path("/var/lib/cirra")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_BOOT_FILES = Path("/run/boot")
_RESTART_PAUSE_S = 1.0
_BOOTED = b"+"


@dataclass(frozen=True, slots=True)
class BootSpec:
    """`network`: path of its namespace. `disk`: the folder that is its disk. `hidden`: what it must not see.

    `etc`: names of files in /etc → their contents. `cgroups`: what `cgroups.record` wrote. `pid_file`: takes the first
    process's id, as the machine counts. `argv`, `environment`: what it keeps running.
    """

    hostname: str
    network: str
    disk: str
    hidden: str
    etc: dict[str, str]
    boot_id: str
    cgroups: str
    pid_file: str
    argv: list[str]
    environment: dict[str, str]

    def save(self, file: Path) -> None:
        file.write_text(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def load(cls, file: Path) -> BootSpec:
        return cls(**json.loads(file.read_text()))


def main(spec_file: str) -> int:
    spec = BootSpec.load(Path(spec_file))
    said, say = os.pipe()
    if os.fork() == 0:
        os.close(said)
        os.setsid()
        os._exit(_power(spec, say))
    os.close(say)
    with os.fdopen(said, "rb") as told:
        # Until both have closed it. Nothing to read: it could not boot, and its standard error says why.
        return 0 if told.read() == _BOOTED else 1


def _power(spec: BootSpec, say: int) -> int:
    """Outside, as long as the host is on."""
    namespaces.unshare(namespaces.NEW_PID, "process namespace")
    first = os.fork()
    if first == 0:
        _run_host(spec, say)
    Path(spec.pid_file).write_text(f"{first}\n")
    os.close(say)
    os.waitpid(first, 0)
    return 0


def _run_host(spec: BootSpec, say: int) -> None:
    try:
        _enter(spec)
    except OSError as error:
        print(f"{spec.hostname} does not boot: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os.chdir("/")
    os.write(say, _BOOTED)
    os.close(say)
    _keep_running(spec)


def _enter(spec: BootSpec) -> None:
    groups = cgroups.recorded(Path(spec.cgroups))
    cgroups.join(list(groups.values()))
    namespaces.enter_network(Path(spec.network))
    namespaces.unshare(namespaces.NEW_MOUNT | namespaces.NEW_UTS, "mount and UTS namespace")
    namespaces.set_hostname(spec.hostname)
    namespaces.keep_mounts_here()
    namespaces.mount_cgroups(groups, new_sysfs=True)
    namespaces.unshare(namespaces.NEW_CGROUP, "cgroup namespace")
    _mount_disk(spec)
    namespaces.mount("proc", "/proc", kind="proc")
    namespaces.mount("tmpfs", "/run", kind="tmpfs", data="mode=755")
    _own_identity(spec)


def _mount_disk(spec: BootSpec) -> None:
    """In this order: either folder may be in the other."""
    disk = os.open(spec.disk, os.O_PATH)
    namespaces.mount("tmpfs", spec.hidden, kind="tmpfs", data="mode=000")
    DISK.mkdir(parents=True, exist_ok=True)
    namespaces.bind(f"/proc/self/fd/{disk}", DISK)
    os.close(disk)


def _own_identity(spec: BootSpec) -> None:
    _BOOT_FILES.mkdir()
    files = {Path("/etc") / name: text for name, text in spec.etc.items()}
    for target, content in {**files, _BOOT_ID: spec.boot_id}.items():
        file = _BOOT_FILES / target.name
        file.write_text(content)
        # Where a machine lacks such a file, nobody here looks for it.
        if target.exists():
            namespaces.bind(file, target)


def _keep_running(spec: BootSpec) -> None:
    """As an init does: starts its one program again when it ends, and reaps who has lost his parent.

    SIGHUP, from outside, ends the program so that it starts anew.
    """
    program = _start(spec)

    def restart(number: int, frame: object) -> None:
        os.kill(program, signal.SIGTERM)

    signal.signal(signal.SIGHUP, restart)
    while True:
        pid, _ = os.wait()
        if pid == program:
            time.sleep(_RESTART_PAUSE_S)
            program = _start(spec)


def _start(spec: BootSpec) -> int:
    return os.posix_spawn(spec.argv[0], spec.argv, spec.environment, setsid=True, setsigdef=[signal.SIGHUP])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
