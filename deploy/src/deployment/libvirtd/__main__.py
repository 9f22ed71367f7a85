"""The launcher: enters the namespaces of a private libvirtd, runs one of its daemons there, and reaps after it.

`python -m deployment.libvirtd ROOT NETWORK_NAMESPACE|- COMMAND…` exits with the command's code once that has put
itself into the background. A process stays behind as the parent of the daemon and of all guests that it will start
(PR_SET_CHILD_SUBREAPER of prctl(2)), and ends with the last of them: libvirt takes a guest for alive as long as nobody
has reaped it, and the first process of a container may take seconds for that.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from deployment.libvirtd import cgroups
from deployment.libvirtd.layout import Layout
from deployment.libvirtd.namespace import enter

_PR_SET_CHILD_SUBREAPER = 36


def main(root: str, network_namespace: str, *command: str) -> int:
    code_of_command, write_end = os.pipe()
    if os.fork() == 0:
        os.close(code_of_command)
        os._exit(_run_and_reap(write_end, root, network_namespace, command))
    os.close(write_end)
    # Nothing to read: the reaper died, for it is the only writer.
    return (os.read(code_of_command, 1) or b"\xff")[0]


def _run_and_reap(write_end: int, root: str, network_namespace: str, command: tuple[str, ...]) -> int:
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = os.fork()
    if child == 0:
        os.close(write_end)
        _become(root, network_namespace, command)
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            return 0
        if pid == child:
            os.write(write_end, bytes([os.waitstatus_to_exitcode(status) & 0xFF]))
            os.close(write_end)


def _become(root: str, network_namespace: str, command: tuple[str, ...]) -> None:
    """Replaces this process by the command, in the namespaces; what goes wrong is on its standard error."""
    try:
        layout = Layout(Path(root))
        groups = cgroups.recorded(layout.cgroups_record)
        enter(layout, groups, None if network_namespace == "-" else Path(network_namespace))
        os.execv(command[0], command)
    except OSError as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(127)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
