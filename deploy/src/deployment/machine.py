"""One deployment for each machine: bridges, taps and rules are the network namespace's, and the agents' marks on them
don't say which deployment made them.

The claim is an abstract unix socket (unix(7)): it belongs to a network namespace, and the kernel drops it with its
holder. A second one tells the others, through /proc/net/unix, whose it is.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import CirraError

_CLAIM = "cirra-deployment"
_HOLDER = f"{_CLAIM}:"
_SOCKETS = Path("/proc/self/net/unix")


class MachineTaken(CirraError):
    """Another deployment has this machine."""

    reason = "MACHINE_TAKEN"


@contextmanager
def claimed(root: Path) -> Iterator[None]:
    """This machine is the deployment's in *root* within. Raises MachineTaken."""
    with socket.socket(socket.AF_UNIX) as claim, socket.socket(socket.AF_UNIX) as name:
        try:
            claim.bind(f"\0{_CLAIM}")
        except OSError as error:
            raise taken_by(holder()) from error
        name.bind(f"\0{_HOLDER}{root}")
        yield


def holder() -> Path | None:
    """The root of the deployment that runs on this machine; None: none does."""
    for line in _SOCKETS.read_text().splitlines():
        # /proc writes the leading zero as "@".
        _, found, root = line.partition(f"@{_HOLDER}")
        if found:
            return Path(root)
    return None


def taken_by(root: Path | None) -> MachineTaken:
    where = f" in {root}" if root is not None else ""
    return MachineTaken(
        f"another deployment{where} runs on this machine",
        remedy="stop it first: make down" + (f" ARGS='--state-dir {root}'" if root is not None else ""),
    )
