"""What the kernel refuses, said as a fault of the port that wanted it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pyroute2.netlink.exceptions import NetlinkError

from net_agent.drivers.base import NetworkFault


@asynccontextmanager
async def kernel_faults(doing: str) -> AsyncIterator[None]:
    """Turns errors of netlink and of system calls into NetworkFault, the cause kept."""
    try:
        yield
    except (NetlinkError, OSError) as error:
        raise NetworkFault(
            f"{doing}: {error}", reason="KERNEL_REFUSED", remedy="see the net-agent's log on this host", reschedule=True
        ) from error
