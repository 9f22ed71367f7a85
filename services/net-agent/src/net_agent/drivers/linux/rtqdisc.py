"""Token buckets, ingress hooks and what leads away from them (rtnetlink(7), RTM_GETQDISC, RTM_GETTFILTER).

Of the calling thread's namespace. Blocks.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from net_agent.drivers.linux import rtnetlink

# linux/rtnetlink.h, linux/pkt_sched.h
_RTM_GETQDISC, _RTM_GETTFILTER = 38, 46
_INGRESS_HANDLE = 0xFFFF_0000
_TC_H_ROOT, _TC_H_INGRESS = 0xFFFF_FFFF, 0xFFFF_FFF1
_TCA_KIND, _TCA_OPTIONS, _TCA_TBF_PARMS = 1, 2, 1
# linux/pkt_cls.h, linux/tc_act/tc_mirred.h: of a u32 filter the first action, and the interface that it sends to.
_TCA_U32_ACT, _FIRST_ACTION, _TCA_ACT_OPTIONS, _TCA_MIRRED_PARMS = 7, 1, 2, 2
_MIRRED = struct.Struct("=24xI")
_TCMSG = struct.Struct("=B3xiIII")
# struct tc_tbf_qopt: of its rate the octets a second; its peak rate; limit, buffer, MTU.
_TBF = struct.Struct("=8xI12xII4x")

# rate, time to send the burst, limit; as the kernel tells them
Parameters = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Queues:
    """By the interface's index. buckets: of those whose root is one (tc-tbf(8)). ingress: those that have the hook."""

    buckets: Mapping[int, Parameters]
    ingress: frozenset[int]


def read_queues() -> Queues:
    buckets: dict[int, Parameters] = {}
    ingress: set[int] = set()
    with rtnetlink.opened() as link:
        for content in rtnetlink.dump(link, _RTM_GETQDISC, _TCMSG.pack(0, 0, 0, 0, 0), "the queues of interfaces"):
            _, index, _, parent, _ = _TCMSG.unpack_from(content)
            if parent == _TC_H_INGRESS:
                ingress.add(index)
            elif parent == _TC_H_ROOT and (parameters := _bucket(content)) is not None:
                buckets[index] = parameters
    return Queues(buckets, frozenset(ingress))


def _bucket(content: bytes) -> Parameters | None:
    """None: it is another kind of queue."""
    if dict(rtnetlink.attributes(content, _TCMSG.size)).get(_TCA_KIND) != b"tbf\0":
        return None
    parameters = _nested(content, _TCA_OPTIONS, _TCA_TBF_PARMS)
    if parameters is None:
        return None
    rate, limit, buffer = _TBF.unpack_from(parameters)
    return rate, buffer, limit


def read_redirects(index: int) -> frozenset[int]:
    """The interfaces to which what comes in at this one, which has the hook, is sent (tc-mirred(8))."""
    body = _TCMSG.pack(0, index, 0, _INGRESS_HANDLE, 0)
    with rtnetlink.opened() as link:
        found = [
            _nested(content, _TCA_OPTIONS, _TCA_U32_ACT, _FIRST_ACTION, _TCA_ACT_OPTIONS, _TCA_MIRRED_PARMS)
            for content in rtnetlink.dump(link, _RTM_GETTFILTER, body, "the filters of an interface")
        ]
    return frozenset(_MIRRED.unpack_from(parameters)[0] for parameters in found if parameters is not None)


def _nested(content: bytes, *path: int) -> bytes | None:
    """The value of an attribute within attributes; None: there is none."""
    value, offset = content, _TCMSG.size
    for kind in path:
        found = dict(rtnetlink.attributes(value, offset)).get(kind)
        if found is None:
            return None
        value, offset = found, 0
    return value
