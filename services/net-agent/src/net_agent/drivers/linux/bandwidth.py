"""How much a port may send and receive: token buckets (tc-tbf(8)) at its tap.

To the guest the bucket is the tap's own. From the guest everything is led to an interface first (tc-mirred(8)
to an ifb), whose bucket it passes, and comes back to where it was: what comes in can't be delayed otherwise. Blocks.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import TC_H_ROOT
from pyroute2.netlink.rtnl.tcmsg import sched_tbf

from core.ids import device_suffix
from net_agent.drivers.base import NetworkFault
from net_agent.drivers.linux.links import Link, Links, alias, all_links, delete_link, get_link, set_link
from net_agent.drivers.linux.rtqdisc import Parameters, Queues, read_queues, read_redirects
from net_agent.model import Port

ROLE = "bandwidth"

_HANDLE = 0x1_0000  # 1:
_INGRESS_HANDLE = 0xFFFF_0000
_ETH_P_ALL = 3
_EVERYTHING = "0x0/0x0+0"
# What comes at once beyond the rate: as much as comes within this time, and a few frames at least.
_BURST_S = 0.01
_LEAST_BURST = 16 * 1024
# What waits in the queue, beyond the burst: longer, and guests' TCP would see delay in place of loss.
_QUEUE_S = 0.05
_LEAST_QUEUE = 32 * 1024


@dataclass(frozen=True, slots=True)
class Bucket:
    """In octets, and octets a second."""

    rate: int
    burst: int
    limit: int

    @classmethod
    def of(cls, kbps: int, burst_kbits: int) -> Bucket | None:
        """None: unlimited. A burst of 0: what suits the rate."""
        if not kbps:
            return None
        rate = kbps * 125
        burst = burst_kbits * 125 or max(round(rate * _BURST_S), _LEAST_BURST)
        return cls(rate, burst, burst + max(round(rate * _QUEUE_S), _LEAST_QUEUE))

    @property
    def arguments(self) -> dict[str, Any]:
        return {"rate": f"{self.rate * 8}bit", "burst": self.burst, "limit": self.limit}

    @property
    def parameters(self) -> Parameters:
        """As the kernel tells them."""
        found = dict(sched_tbf.get_parameters(self.arguments)["attrs"])["TCA_TBF_PARMS"]
        return found["rate"], found["buffer"], found["limit"]


@dataclass(frozen=True, slots=True)
class Shape:
    """What stands at a tap: buckets' parameters, and whether what comes in is led through the second one."""

    inward: Parameters | None = None
    outward: Parameters | None = None
    led: bool = False


def wanted_shape(port: Port) -> Shape:
    inward, outward = _buckets(port)
    return Shape(
        None if inward is None else inward.parameters,
        None if outward is None else outward.parameters,
        outward is not None,
    )


def detour_device(port_id: str) -> str:
    """The ifb that what a guest sends passes."""
    return f"ifb{device_suffix(port_id)}"


def _buckets(port: Port) -> tuple[Bucket | None, Bucket | None]:
    limits = port.bandwidth
    return (
        Bucket.of(limits.ingress_kbps, limits.ingress_burst_kbits),
        Bucket.of(limits.egress_kbps, limits.egress_burst_kbits),
    )


def devices_of(ports: Collection[Port]) -> set[str]:
    """All interfaces that their bandwidth is about."""
    return {device for port in ports for device in (port.device, detour_device(port.port_id))}


def read_shapes(ports: Collection[Port], links: Links) -> Mapping[str, Shape]:
    """Of each port, by its id. links: with all of `devices_of` that there are."""
    queues = read_queues()
    return {
        port.port_id: _shape(queues, links.get(port.device), links.get(detour_device(port.port_id))) for port in ports
    }


def _shape(queues: Queues, tap: Link | None, detour: Link | None) -> Shape:
    return Shape(
        queues.buckets.get(tap.index) if tap is not None else None,
        queues.buckets.get(detour.index) if detour is not None else None,
        tap is not None
        and detour is not None
        and detour.up
        and tap.index in queues.ingress
        and detour.index in read_redirects(tap.index),
    )


def ensure_bandwidth(port: Port, present: Shape) -> None:
    """Just what is wanted stands at the tap; what is right isn't touched. Raises NetworkFault."""
    wanted = wanted_shape(port)
    if present == wanted:
        return
    inward, outward = _buckets(port)
    with IPRoute() as ip:
        tap = get_link(ip, port.device)
        if tap is None:
            raise NetworkFault(f"the tap {port.device} is gone")
        if present.inward != wanted.inward:
            _set_bucket(ip, tap.index, inward)
        if outward is None:
            _go_straight(ip, tap.index, port.port_id)
        elif present != wanted:
            _lead_through(ip, tap.index, port, outward, led=present.led)


def _set_bucket(ip: IPRoute, index: int, bucket: Bucket | None) -> None:
    if bucket is not None:
        ip.tc("replace", "tbf", index=index, handle=_HANDLE, **bucket.arguments)
    else:
        _tolerating_absence(lambda: ip.tc("del", index=index, handle=_HANDLE, parent=TC_H_ROOT))


def _lead_through(ip: IPRoute, tap: int, port: Port, bucket: Bucket, *, led: bool) -> None:
    """The detour is there, with its bucket, before anything is led to it."""
    name = detour_device(port.port_id)
    detour = get_link(ip, name)
    if detour is None:
        ip.link("add", ifname=name, kind="ifb")
        detour = get_link(ip, name)
    if detour is None or detour.kind != "ifb":
        raise NetworkFault(
            f"{name} exists and is not this port's",
            reason="DEVICE_NAME_TAKEN",
            remedy=f"rename or remove the interface {name} on this host",
        )
    set_link(ip, detour, ifalias=alias(ROLE, port.port_id), mtu=port.network.mtu, state="up")
    _set_bucket(ip, detour.index, bucket)
    if not led:
        _tolerating_absence(lambda: ip.tc("del", "ingress", index=tap))
        ip.tc("add", "ingress", index=tap)
        redirect = {"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": detour.index}
        ip.tc(
            "add-filter",
            "u32",
            index=tap,
            parent=_INGRESS_HANDLE,
            prio=1,
            protocol=_ETH_P_ALL,
            target=_HANDLE,
            keys=[_EVERYTHING],
            action=redirect,
        )


def _go_straight(ip: IPRoute, tap: int, port_id: str) -> None:
    """Nothing is led to the detour any more before it goes."""
    _tolerating_absence(lambda: ip.tc("del", "ingress", index=tap))
    _remove_detours(ip, port_id)


def remove_bandwidth(port_id: str) -> None:
    """What the tap itself does not take along. Absent is success."""
    with IPRoute() as ip:
        _remove_detours(ip, port_id)


def _remove_detours(ip: IPRoute, port_id: str) -> None:
    """One without an alias is one that a crash left between its making and its naming."""
    for link in all_links(ip):
        nameless = link.name == detour_device(port_id) and link.kind == "ifb" and not link.alias
        if link.owner(ROLE) == port_id or nameless:
            delete_link(ip, link)


def detoured_ports() -> frozenset[str]:
    """Every port that has a detour here."""
    with IPRoute() as ip:
        return frozenset(owner for link in all_links(ip) if (owner := link.owner(ROLE)) is not None)


def _tolerating_absence(delete: Any) -> None:
    try:
        delete()
    except NetlinkError as error:
        if error.code not in (errno.ENOENT, errno.EINVAL, errno.ENODEV):
            raise
