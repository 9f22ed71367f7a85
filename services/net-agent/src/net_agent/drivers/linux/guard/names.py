"""What the tables are called, and what is in them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

TABLE = "cirra"
# Maps and sets.
TAPS, SENDERS, RECEIVERS, NETWORKS = "taps", "senders", "receivers", "networks"
MEMBERS, UPLINKS, SERVICES, GUARDED = "members", "uplinks", "services", "guarded"
CONNECTIONS = "connections"

# Before conntrack (-200) and br_netfilter (NF_BR_PRI_NAT_DST_BRIDGED is -300).
FIRST_PRIORITY = -300
# What br_netfilter shows to the hooks of IP, it shows at -1 (NF_BR_PRI_BRNF - 1).
BEFORE_IP_PRIORITY, AFTER_IP_PRIORITY = -10, 10
BEFORE_ALL_PRIORITY = -20

# Of a connection whose rule is gone: neither way goes on.
ENDED_MARK = 0x1


def sending(device: str) -> str:
    """The chain of what comes from a port, by its rules."""
    return f"out-{device}"


def receiving(device: str) -> str:
    return f"in-{device}"


def marks_sender(device: str) -> str:
    return f"from-{device}"


def marks_receiver(device: str) -> str:
    return f"to-{device}"


def zone_chain(device: str) -> str:
    return f"zone-{device}"


def group_chain(group_id: str, *, egress: bool) -> str:
    return f"{'egress' if egress else 'ingress'}-{group_id}"


def members_set(group_id: str, ip_version: int) -> str:
    return f"members{ip_version}-{group_id}"


def chains_of_port(device: str) -> frozenset[str]:
    """All that there can be of one."""
    kinds = (sending, receiving, marks_sender, marks_receiver, zone_chain)
    return frozenset({device, *(kind(device) for kind in kinds)})


def names_of_device(device: str) -> frozenset[str]:
    """Of what is on a bridge beside taps: itself, and the chains of what it sends and receives."""
    return frozenset({device, marks_sender(device), marks_receiver(device)})


def is_of_group(name: str) -> bool:
    """Whether it is a chain or a set of a group."""
    return name.startswith(("egress-", "ingress-", "members4-", "members6-"))


# Of both back ends.
BASE_CHAINS = frozenset({"prerouting", "input", "forward", "passed", "zones", "senders", "receivers", "strange"})


def names_of_groups(group_ids: Iterable[str]) -> Iterator[str]:
    """Their chains and @sets. A set that another group's rules name is that group's too."""
    for group_id in group_ids:
        for egress in (True, False):
            yield group_chain(group_id, egress=egress)
        for version in (4, 6):
            yield f"@{members_set(group_id, version)}"
