"""From the guest's tap to the end of its bridge: interfaces and rules, read in the kernel."""

from __future__ import annotations

from pyroute2 import IPRoute

from net_agent.diagnosis.finding import Finding, broken, not_applicable, ok, unknown
from net_agent.diagnosis.nft import tables
from net_agent.diagnosis.path import GuestPath
from net_agent.drivers.linux.links import Link, get_link
from net_agent.model import Network, NetworkKind

_RECONCILE = "the net-agent puts it back within seconds: cirra service list says whether it runs, its log why not"
TABLE = "bridge cirra"
# The parts of the host that guard its ports.
_GUARDS = ("firewall",)
# linux/if.h: the driver says that there is a carrier.
_IFF_LOWER_UP = 0x1_0000


def _links(*names: str) -> list[Link | None]:
    with IPRoute() as ip:
        return [get_link(ip, name) for name in names]


def _has_carrier(name: str) -> bool:
    with IPRoute() as ip:
        return any(message["flags"] & _IFF_LOWER_UP for message in ip.link("get", ifname=name))


async def rules(path: GuestPath) -> Finding:
    if TABLE not in await path.on_host(tables):
        return broken("RULES_MISSING", f"the host has no table `{TABLE}`: nothing guards its guests", _RECONCILE)
    if lacks := await path.ground.lacks(*_GUARDS):
        return broken("RULES_NOT_IN_FORCE", f"of {path.port.device}: {'; '.join(lacks)}", _RECONCILE)
    return ok(f"the rules of {path.port.device} are in force, and are those desired")


async def tap(path: GuestPath) -> Finding:
    device = path.port.device
    link, bridge = await path.on_host(lambda: _links(device, path.network.bridge))
    if link is None:
        return broken("TAP_MISSING", f"there is no {device}", f"{_RECONCILE}; a guest that runs must then be rebooted")
    if not link.up:
        return broken("TAP_DOWN", f"{device} is down", f"{_RECONCILE}; by hand: ip link set {device} up")
    if bridge is None:
        return unknown("NO_BRIDGE", f"{device} is up; there is no bridge for it to be on")
    if link.master != bridge.index:
        where = "on no bridge" if link.master is None else "on another bridge"
        return broken("TAP_OFF_BRIDGE", f"{device} is up, and {where}", _RECONCILE)
    if link.mtu != path.network.mtu:
        seen = f"{device} carries {link.mtu} octets, the network {path.network.mtu}"
        return broken("TAP_MTU_WRONG", seen, _RECONCILE)
    return ok(f"{device} is up, on {bridge.name}, MTU {link.mtu}")


async def guest(path: GuestPath) -> Finding:
    device = path.port.device
    link = (await path.on_host(lambda: _links(device)))[0]
    if link is None or not link.up:
        return unknown("NO_TAP", f"{device} is missing or down")
    if await path.on_host(lambda: _has_carrier(device)):
        return ok(f"{device} has a carrier: a guest has it open")
    return broken(
        "GUEST_NOT_CONNECTED",
        f"{device} has no carrier: no guest has it open",
        "see whether the guest runs (cirra server show), and reboot it with --hard so that its card is plugged anew",
    )


async def bridge(path: GuestPath) -> Finding:
    name = path.network.bridge
    link = (await path.on_host(lambda: _links(name)))[0]
    if link is None:
        return broken("BRIDGE_MISSING", f"there is no {name}", _RECONCILE)
    if link.kind != "bridge":
        return broken("BRIDGE_MISSING", f"{name} is no bridge but {link.kind or 'a device'}", "rename that interface")
    if not link.up:
        return broken("BRIDGE_DOWN", f"{name} is down", f"{_RECONCILE}; by hand: ip link set {name} up")
    return ok(f"{name} is up, MTU {link.mtu}")


async def uplink(path: GuestPath) -> Finding:
    """Where a network leaves the host by an interface of its own."""
    if path.network.kind is NetworkKind.VXLAN or not path.network.physical_network:
        return not_applicable("the network is on no segment of the provider's")
    return await uplink_of(path, path.network)


async def uplink_of(path: GuestPath, network: Network) -> Finding:
    """Of any network that is on a segment of the provider's."""
    segment = network.physical_network
    name = path.ground.uplink_of(network)
    if name is None:
        return broken(
            "PHYSICAL_NETWORK_UNKNOWN",
            f"this host has no interface for {segment}",
            f"name it in CIRRA_PHYSICAL_NETWORKS ({segment}:<interface>)",
        )
    link, joint, bridge_link = await path.on_host(lambda: _links(name, path.ground.joint_of(network), network.bridge))
    if link is None:
        return broken("UPLINK_MISSING", f"there is no {name}, the interface of {segment}", "bring the interface back")
    if not link.up:
        return broken("UPLINK_DOWN", f"{name} is down", f"ip link set {name} up, and see who took it down")
    if bridge_link is not None and (joint is None or joint.master != bridge_link.index):
        return _off_bridge(path, network, f"{path.ground.joint_of(network)} is not on {bridge_link.name}")
    if not await path.on_host(lambda: _has_carrier(name)):
        return broken("UPLINK_NO_CARRIER", f"{name} has no carrier", "see to its cable and the switch's port")
    if link.mtu < network.mtu:
        seen = f"{name} carries {link.mtu} octets, the network {network.mtu}"
        return broken("UPLINK_MTU_TOO_SMALL", seen, f"ip link set {name} mtu {network.mtu}, on the switch as well")
    return ok(f"{name} is up, has a carrier, MTU {link.mtu}")


def _off_bridge(path: GuestPath, network: Network, seen: str) -> Finding:
    """The net-agent may know why it can't put it there."""
    failures = (it.failure for it in path.faults if (it.kind, it.object_id) == ("network", network.network_id))
    if (failure := next(failures, None)) is None:
        return broken("UPLINK_OFF_BRIDGE", seen, _RECONCILE)
    return broken("UPLINK_OFF_BRIDGE", f"{seen}: {failure.message}", failure.remedy or _RECONCILE)
