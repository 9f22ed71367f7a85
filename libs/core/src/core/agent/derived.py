"""Objects that the conductor derives (ADR 25): one of another life than those that sagas make.

They hold no data, so one that a complete answer doesn't list is removed. One that is right is not reported; all that
could not be made so are told as one list.
"""

from __future__ import annotations

from collections.abc import Mapping

VERBS: Mapping[str, str] = {
    "network": "EnsureNetwork",
    "peer": "EnsurePeer",
    "router": "EnsureRouter",
    "floating-ip": "EnsureFloatingIp",
    "security-group": "EnsureSecurityGroup",
    "group-member": "EnsureGroupMember",
}
"""Kind → verb of its command."""


def is_derived(kind: str) -> bool:
    return kind in VERBS
