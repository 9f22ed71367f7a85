"""What the kernel refuses, said as a fault of the object that wanted it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pyroute2.netlink.exceptions import NetlinkError

from net_agent.drivers.base import NetworkFault
from net_agent.model import Key


@contextmanager
def kernel_faults(doing: str) -> Iterator[None]:
    """Turns errors of netlink and of system calls into NetworkFault, the cause kept."""
    try:
        yield
    except (NetlinkError, OSError) as error:
        raise NetworkFault(
            f"{doing}: {error}", reason="KERNEL_REFUSED", remedy="see the net-agent's log on this host", reschedule=True
        ) from error


@contextmanager
def noted(faults: dict[Key, NetworkFault], keys: Iterable[Key], doing: str) -> Iterator[None]:
    """A fault, or what the kernel refuses, is noted as one of each of these objects, and goes no further."""
    try:
        with kernel_faults(doing):
            yield
    except NetworkFault as fault:
        faults.update(dict.fromkeys(keys, fault))
