"""Server groups as constraint rows of claims: what keeps their members together or apart, whoever decides at once.

Anti-affinity: a counter per group and host, limited. Affinity: a unique row per group says on which host it is; a
counter of its members says when the last one has gone, which frees the row. A release says whether it is the last
(`group_emptied`), and its own constraint rows hold it to that: no member may be left, or one must be.
"""

from __future__ import annotations

from collections.abc import Iterator

from cirra.placement.v1 import scheduling_pb2 as scheduling
from core.eventlog.types import Constraint, CounterAdd, CounterLimit, UniqueClaim, UniqueRelease

# Key: group and host.
ON_HOST = "server-group-on-host"
# Key: group.
MEMBERS = "server-group-members"
HOST = "server-group-host"

SCOPES = (ON_HOST, MEMBERS, HOST)


def most_per_host(group: scheduling.GroupRule) -> int:
    """How many members of a group with anti-affinity one host may have."""
    return group.max_servers_per_host or 1


def joined(group: scheduling.GroupRule, host: str) -> Iterator[Constraint]:
    """A member comes to the host. Refused by `LimitExceeded` (apart) or `UniqueViolation` (together)."""
    match group.policy:
        case scheduling.GROUP_POLICY_ANTI_AFFINITY:
            key = f"{group.group_id}/{host}"
            yield CounterLimit(ON_HOST, key, most_per_host(group))
            yield CounterAdd(ON_HOST, key, 1)
        case scheduling.GROUP_POLICY_AFFINITY:
            yield UniqueClaim(HOST, group.group_id, host)
            yield CounterAdd(MEMBERS, group.group_id, 1)


def left(group: scheduling.GroupRule, host: str, *, emptied: bool) -> Iterator[Constraint]:
    """A member leaves the host. Refused by `LimitExceeded` if it is not the last, by `CounterUnderflow` if it is."""
    match group.policy:
        case scheduling.GROUP_POLICY_ANTI_AFFINITY:
            yield CounterAdd(ON_HOST, f"{group.group_id}/{host}", -1)
        case scheduling.GROUP_POLICY_AFFINITY:
            key = group.group_id
            yield CounterAdd(MEMBERS, key, -1)
            if emptied:
                yield CounterLimit(MEMBERS, key, 1)
                yield CounterAdd(MEMBERS, key, 1)
                yield CounterAdd(MEMBERS, key, -1)
                yield CounterLimit(MEMBERS, key, None)
                yield UniqueRelease(HOST, key, host)
            else:
                yield CounterAdd(MEMBERS, key, -1)
                yield CounterAdd(MEMBERS, key, 1)
