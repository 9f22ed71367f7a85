"""A port's tap: what QEMU opens as the guest's network card (Documentation/networking/tuntap.rst of the kernel)."""

from __future__ import annotations

import fcntl
import os
import struct

from pyroute2 import IPRoute

from core.ids import tap_device
from net_agent.drivers.base import NetworkFault
from net_agent.drivers.linux import bridge
from net_agent.drivers.linux.links import (
    Link,
    alias,
    all_links,
    delete_link,
    disable_ipv6,
    get_link,
    set_link,
)
from net_agent.model import Port

ROLE = "port"

TUNSETIFF, TUNSETPERSIST = 0x400454CA, 0x400454CB
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000


def ensure_tap(port: Port) -> None:
    """A persistent tap, up, with the network's MTU, a port of the network's bridge.

    It has one queue: a device made with several can be opened only with several (and the reverse), and QEMU and libvirt
    ask for several only when told to. Virtio headers are the opener's choice at each opening.
    Raises NetworkFault when the name is taken by something that is no tap.
    """
    with IPRoute() as ip:
        master = get_link(ip, port.network.bridge)
        if master is None:
            raise NetworkFault(f"the bridge {port.network.bridge} of {port.device} is gone")
        tap = get_link(ip, port.device)
        if tap is None:
            create_tap(port.device)
            disable_ipv6(port.device)
            tap = get_link(ip, port.device)
        if tap is None or tap.kind != "tun" or tap.alias not in ("", alias(ROLE, port.port_id)):
            raise NetworkFault(
                f"{port.device} exists and is not this port's tap",
                reason="DEVICE_NAME_TAKEN",
                remedy=f"rename or remove the interface {port.device} on this host",
            )
        disable_ipv6(port.device)
        set_link(ip, tap, ifalias=alias(ROLE, port.port_id), mtu=port.network.mtu, master=master.index, state="up")


def create_tap(name: str) -> None:
    """Makes a persistent tap in the calling thread's namespace."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        request = struct.pack("16sH22x", name.encode("ascii"), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)
        fcntl.ioctl(descriptor, TUNSETIFF, request)
        fcntl.ioctl(descriptor, TUNSETPERSIST, 1)
    finally:
        os.close(descriptor)


def remove_tap(port_id: str) -> None:
    """Absent is success. A guest that has it open loses its link.

    A tap without an alias is one that a crash left between its making and its naming.
    """
    with IPRoute() as ip:
        named = get_link(ip, tap_device(port_id))
        for link in [named] if named is not None and _is_of(named, port_id) else all_links(ip):
            if _is_of(link, port_id):
                delete_link(ip, link)


def _is_of(link: Link, port_id: str) -> bool:
    nameless = link.name == tap_device(port_id) and link.kind == "tun" and not link.alias
    return link.owner(ROLE) == port_id or nameless


def remove_taps() -> None:
    """Those of all ports."""
    with IPRoute() as ip:
        for link in all_links(ip):
            if link.owner(ROLE) is not None:
                delete_link(ip, link)


def plugged_ports() -> dict[str, str | None]:
    """Every port that has a tap here → the network whose bridge it is on (None: on none of ours)."""
    with IPRoute() as ip:
        links = all_links(ip)
    networks = {link.index: link.owner(bridge.ROLE) for link in links}
    return {
        owner: networks.get(link.master) if link.master is not None else None
        for link in links
        if (owner := link.owner(ROLE)) is not None
    }
