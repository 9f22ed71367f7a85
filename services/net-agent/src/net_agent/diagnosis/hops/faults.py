"""What the net-agent itself says that it can't make so, of what this guest's path needs."""

from __future__ import annotations

from net_agent.diagnosis.finding import Finding, broken, ok
from net_agent.diagnosis.hops.routing import way_of, way_out_of
from net_agent.diagnosis.path import GuestPath
from net_agent.model import Key

# What another hop of this walk has looked at just now; the last look without a question may be a minute old.
_LOOKED_AT = ("HOST_FILTER_REJECTS",)


async def faults(path: GuestPath) -> Finding:
    needed = _needed(path)
    told = (fault for fault in path.faults if fault.failure.reason not in _LOOKED_AT)
    found = [fault for fault in told if (fault.kind, fault.object_id) in needed]
    if not found:
        return ok("the net-agent has made all that it was told of this path")
    first, more = found[0], f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    seen = f"{first.kind} {first.object_id}: {first.failure.message}{more}"
    remedy = first.failure.remedy or "see the net-agent's log on this host, and cirra host show"
    return broken(first.failure.reason or "HOST_FAULT", seen, remedy)


def _needed(path: GuestPath) -> set[Key]:
    keys: set[Key] = {("port", path.port.port_id), ("network", path.network.network_id)}
    keys |= {("security-group", group_id) for group_id in path.port.security_group_ids}
    if (way := way_of(path)) is not None:
        keys.add(("router", way.router.router_id))
    if (out := way_out_of(path)) is not None:
        keys.add(("network", out.gateway.network_id))
        if out.floating is not None:
            keys.add(("floating-ip", out.floating.floating_ip_id))
    return keys
