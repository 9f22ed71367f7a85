"""What the Linux driver is put together from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from net_agent.drivers.base import Faults
from net_agent.drivers.linux.view import HostView
from net_agent.model import Key, Model
from net_agent.specs.wanted import Scope, Wanted

# Of which object, and what of it isn't in place, for a person to read.
Lacks = Mapping[Key, str]


class Part(Protocol):
    """One share of what a host is made of: bridges, taps, the rules of security groups, the routers' namespaces.

    A part makes the host's state from *all* that is wanted (`Wanted`: every known object) by difference, as far as it
    is concerned by the objects of a scope; it holds no state of its own but what is cheaper to remember than to read.
    It is called for several networks at the same time, and never twice at once for one of them; what spans networks
    (an nftables table, a router's namespace) it locks by itself. Errors of netlink and of system calls may be raised
    as they are. `LinuxDriver` says in which order parts run.
    """

    @property
    def name(self) -> str:
        """For logs."""

    async def ensure(self, wanted: Wanted, scope: Scope) -> Faults:
        """What the scope's objects need of this part is there; what is right already isn't touched.

        Returns the faults of single objects: the parts after this one leave those alone, with a network all that is on
        it. What is raised is a fault of all that is in the scope.
        """

    async def observe(self, wanted: Wanted, scope: Scope, view: HostView) -> Lacks:
        """What the scope's objects lack of this part. Reads the host, by way of *view* what is costly; touches nothing.

        `ensure` with the keys that it returns puts it right.
        """

    async def remove(self, key: Key, last: Model | None) -> None:
        """The object is no longer wanted: nothing of it is left of this part. Absent is success.

        last: its last specification; None when no record tells. A network goes when it doesn't stand here any more.
        """

    async def clear(self) -> None:
        """Nothing of this part is left, whatever the records say, by the marks on what it made; nothing foreign goes.

        What can only be found by its network's id may stay: each network is removed right after.
        """
