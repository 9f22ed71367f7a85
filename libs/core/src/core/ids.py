"""Ids are UUIDv7 (RFC 9562, section 5.7): they sort by time of birth. Resource names follow AIP-122."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import NewType
from uuid import UUID, uuid5

InstanceId = NewType("InstanceId", UUID)
PortId = NewType("PortId", UUID)
SagaId = NewType("SagaId", UUID)

_HOST_NAMESPACE = UUID("5a3b1f0e-4a55-5d27-9c0e-6d1d2b9b6f3a")
_CLAIM_NAMESPACE = UUID("c1a1b0d2-7c3e-5b44-8f0a-3f7b9f6f1d55")
_GATEWAY_NAMESPACE = UUID("4b7d2c9e-1f3a-5e60-8d27-93c5b1a7f042")
_EPOCH_NAMESPACE = UUID("e90c4a1b-6d2f-5c83-9b7e-2f6a1d4c8b30")


def uuid7(
    *,
    now_ns: Callable[[], int] = time.time_ns,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> UUID:
    """48 bits of Unix milliseconds, then 74 random bits."""
    milliseconds = now_ns() // 1_000_000
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(random_bytes(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)


def host_aggregate_id(host: str) -> UUID:
    """A host's aggregate id: UUIDv5 of its name, so that everyone can tell it without asking."""
    return uuid5(_HOST_NAMESPACE, host)


def claim_aggregate_id(claimant: UUID) -> UUID:
    """The id of the claim that an instance holds: told by the instance's id, and not the same aggregate."""
    return uuid5(_CLAIM_NAMESPACE, str(claimant))


def host_gateway_aggregate_id(host: str, network_id: str) -> UUID:
    """The id of what a host is on an external network: whoever makes it makes the same one."""
    return uuid5(_GATEWAY_NAMESPACE, f"{host}/{network_id}")


def epoch_aggregate_id(epoch: int) -> UUID:
    """An epoch's aggregate id: whoever raises it makes the same one, so that it is raised once."""
    return uuid5(_EPOCH_NAMESPACE, str(epoch))


def device_suffix(object_id: str | UUID) -> str:
    """The last eleven hexadecimal digits: an interface name holds 15, and a UUIDv7 begins with the time."""
    return UUID(str(object_id)).hex[-11:]


def bridge_device(network_id: str | UUID) -> str:
    return f"brq{device_suffix(network_id)}"


def tap_device(port_id: str | UUID) -> str:
    return f"tap{device_suffix(port_id)}"


def dhcp_namespace(network_id: str | UUID) -> str:
    return f"qdhcp-{UUID(str(network_id))}"


def parse_uuid(text: str) -> UUID | None:
    """The UUID that a text is, or None."""
    try:
        return UUID(text)
    except ValueError:
        return None


def last_segment(resource_name: str) -> str:
    """`projects/a/instances/b` → `b`; a bare uid or display name is itself."""
    return resource_name.rsplit("/", 1)[-1]
