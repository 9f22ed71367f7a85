"""One supervisor for each folder: a lock (flock(2)) that the kernel drops with its holder."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from core.errors import CirraError
from deployment.layout import Layout
from deployment.status import Status


class AlreadyRunning(CirraError):
    """Another supervisor has this deployment."""

    reason = "ALREADY_RUNNING"


@contextmanager
def locked(layout: Layout) -> Iterator[None]:
    """Holds the deployment for this process; the kernel lets go when it ends. Raises AlreadyRunning."""
    with layout.lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunning(f"a supervisor of {layout.root} is running", remedy="see `make status`") from error
        yield


def is_locked(layout: Layout) -> bool:
    """Does a supervisor live?"""
    if not layout.lock.exists():
        return False
    try:
        with locked(layout):
            return False
    except AlreadyRunning:
        return True


def supervisor_pid(layout: Layout) -> int | None:
    """Of the supervisor that lives."""
    status = Status.load(layout.status)
    return status.supervisor_pid if status is not None and is_locked(layout) else None
