"""Processes of a host, as they are seen from outside."""

from __future__ import annotations

from contextlib import suppress

import psutil

from deployment.testbed.host import Host


def agents(host: Host, kind: str) -> list[int]:
    """Processes of one kind of agent ("net"), without what they have started."""
    found = []
    for pid in host.processes().values():
        with suppress(psutil.NoSuchProcess):
            if f"cirra-{kind}-agent" in " ".join(psutil.Process(pid).cmdline()[:2]):
                found.append(pid)
    return found
