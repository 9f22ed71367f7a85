"""A short name for what an object shall be made after: two ends that know one spec each can tell whether it is one."""

from __future__ import annotations

import hashlib

from cirra.agent.v1.desired_pb2 import DESIRED_POWER_UNSPECIFIED, DesiredObject

_DIGITS = 16


def spec_digest(desired: DesiredObject) -> str:
    """Of the spec without its power, which has a life of its own; empty when there is no spec (a removal)."""
    match desired.WhichOneof("spec"):
        case "domain":
            bare = DesiredObject(domain=desired.domain)
            bare.domain.power = DESIRED_POWER_UNSPECIFIED
        case "port":
            bare = DesiredObject(port=desired.port)
        case _:
            return ""
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()[:_DIGITS]
