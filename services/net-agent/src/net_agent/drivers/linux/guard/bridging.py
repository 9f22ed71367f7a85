"""Bridges that show their frames to the hooks of IP (br_netfilter), in the calling thread's namespace.

Each of Cirra's bridges is told by itself, so that those of others on the host are left as they are.
"""

from __future__ import annotations

from pathlib import Path

from pyroute2 import IPRoute

from net_agent.drivers.base import NetworkFault
from net_agent.drivers.linux.links import Link, get_link

# There as soon as the module is.
_SYSCTL = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
_SETTINGS = ("br_nf_call_iptables", "br_nf_call_ip6tables")


def show_to_ip(bridge: str) -> None:
    """Blocks. Raises NetworkFault on a host that can't."""
    if not can_show():
        raise NetworkFault(
            "this kernel tracks connections neither in bridges nor, without br_netfilter, of what they carry",
            reason="BR_NETFILTER_MISSING",
            remedy="modprobe br_netfilter, and add it to /etc/modules-load.d",
            reschedule=True,
        )
    with IPRoute() as ip:
        link = get_link(ip, bridge)
        if link is not None and not is_shown_to_ip(link):
            ip.link("set", index=link.index, kind="bridge", **dict.fromkeys(_SETTINGS, 1))


def can_show() -> bool:
    """Blocks."""
    return _SYSCTL.exists()


def is_shown_to_ip(bridge: Link) -> bool:
    return all(bridge.settings.get(name) == 1 for name in _SETTINGS)
