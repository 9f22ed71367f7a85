"""Networks of a testbed: the switch with its two segments, what hangs on it, and the cables of hosts (ip(8))."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from core.errors import CirraError
from deployment.testbed import plan
from deployment.testbed.plan import HostPlan, Plan

_NAMESPACES = Path("/run/netns")
_END_TIMEOUT_S = 10.0
_POLL_S = 0.02
# Of a switch that is none of the hosts: frames on it are nobody's to filter (br_netfilter starts with 1).
_NO_FILTER = ("net.bridge.bridge-nf-call-iptables=0", "net.bridge.bridge-nf-call-ip6tables=0")
_NO_IPV6 = ("net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")


class WiringFailed(CirraError):
    """ip(8) refused; the message is its own."""

    reason = "WIRING_FAILED"


class Wires:
    """Each method may be called again after a failure."""

    def __init__(self, site: Plan) -> None:
        self._plan = site

    async def stand(self) -> bool:
        """Is all there but the hosts?"""
        names = (self._plan.switch, self._plan.outside, self._plan.office)
        # This machine's own interface is the last to be made.
        return all(map(exists, names)) and self._plan.control_device in await _links("", "up")

    async def build(self) -> None:
        """The switch, and this machine, the Internet and the office on it. Raises WiringFailed."""
        switch = self._plan.switch
        await _add_namespace(switch, *_NO_IPV6)
        for segment in (plan.UNDERLAY, plan.PROVIDER):
            bridge = f"link add {segment} type bridge stp_state 0 forward_delay 0"
            await _ip(switch, bridge, f"link set {segment} mtu {plan.MTU} up")
        if await asyncio.to_thread(Path("/proc/sys/net/bridge").is_dir):
            await _sysctl(switch, *_NO_FILTER)
        await self._build_outside()
        await self._build_office()
        await self._attach_control()

    async def _attach_control(self) -> None:
        """In the namespace of the caller, where the control plane listens."""
        device = self._plan.control_device
        await _ip(
            self._plan.switch,
            f"link add u-control mtu {plan.MTU} type veth peer name {device} mtu {plan.MTU} netns {os.getpid()}",
            f"link set u-control master {plan.UNDERLAY} up",
        )
        await _ip("", f"addr add {plan.CONTROL} dev {device}", f"link set {device} up")

    async def _build_outside(self) -> None:
        name = self._plan.outside
        await _add_namespace(name)
        await self._cable("p-outside", plan.PROVIDER, name, "eth0")
        await _address_outside(name)

    async def _build_office(self) -> None:
        name = self._plan.office
        # Addresses come from nobody: who announces routers here is found out.
        await _add_namespace(name)
        await self._cable("p-office", plan.PROVIDER, name, "eth0")
        await self._cable("p-office-dhcp", plan.PROVIDER, name, plan.OFFICE_DHCP_DEVICE)
        await _ip(
            name,
            *_addresses("eth0", plan.OFFICE),
            "link set eth0 up",
            f"link set {plan.OFFICE_DHCP_DEVICE} up",
            *(f"route add default via {address.ip}" for address in plan.OUTSIDE),
        )

    async def plug(self, host: HostPlan) -> None:
        """A network for a host that is powered on: two cables, an address on the underlay, a way to the services."""
        await _add_namespace(host.namespace)
        await self._cable(host.underlay_port, plan.UNDERLAY, host.namespace, plan.UNDERLAY_DEVICE)
        await self._cable(host.provider_port, plan.PROVIDER, host.namespace, plan.PROVIDER_DEVICE)
        control = self._plan.control_plane
        reached = control == str(plan.CONTROL.ip)
        await _ip(
            host.namespace,
            f"addr add {host.address} dev {plan.UNDERLAY_DEVICE}",
            f"link set {plan.UNDERLAY_DEVICE} up",
            f"link set {plan.PROVIDER_DEVICE} up",
            *([] if reached else [f"route add {control}/32 via {plan.CONTROL.ip}"]),
        )

    async def unplug(self, host: HostPlan) -> None:
        """Its network is gone, with all interfaces, rules and routes, and who was left in it. Absent is success."""
        for port in (host.underlay_port, host.provider_port):
            await _delete_link(self._plan.switch, port)
        await _remove_namespace(host.namespace)

    async def set_carrier(self, port: str, *, up: bool) -> None:
        """Pull a plug at the switch, or put it in again: the other end sees its carrier go and come."""
        await _ip(self._plan.switch, f"link set {port} {'up' if up else 'down'}")

    async def remove(self) -> None:
        """Nothing of it is left, in whatever state it was; hosts have been unplugged. Raises WiringFailed."""
        # The devices first: a namespace's go some time after it.
        await _delete_link("", self._plan.control_device)
        for port in ("p-outside", "p-office", "p-office-dhcp"):
            await _delete_link(self._plan.switch, port)
        for name in (self._plan.office, self._plan.outside, self._plan.switch):
            await _remove_namespace(name)

    async def _cable(self, port: str, segment: str, namespace: str, device: str) -> None:
        await _ip(
            self._plan.switch,
            f"link add {port} mtu {plan.MTU} type veth peer name {device} mtu {plan.MTU} netns {namespace}",
            f"link set {port} master {segment} up",
        )


async def build_outside(name: str, uplink: str) -> None:
    """The Internet alone, by a cable to *uplink* in the namespace of the caller; one that stands stays. Raises
    WiringFailed."""
    if exists(name) and uplink in await _links("", "up"):
        return
    await remove_outside(name, uplink)
    await _add_namespace(name)
    await _ip("", f"link add {uplink} mtu {plan.MTU} type veth peer name eth0 mtu {plan.MTU} netns {name}")
    await _address_outside(name)
    await _ip("", f"link set {uplink} up")


async def remove_outside(name: str, uplink: str) -> None:
    """With whoever is in there. Absent is success."""
    await _delete_link("", uplink)
    await _remove_namespace(name)


async def _address_outside(name: str) -> None:
    internet = [*plan.DNS, *plan.WEB]
    await _ip(name, *_addresses("eth0", plan.OUTSIDE), *_addresses("lo", internet), "link set eth0 up")


def exists(namespace: str) -> bool:
    return (_NAMESPACES / namespace).exists()


def path(namespace: str) -> Path:
    return _NAMESPACES / namespace


def _addresses(device: str, addresses: Iterable[object]) -> list[str]:
    # Nobody else has them: no time is spent on duplicate address detection (RFC 4862, 5.4).
    return [f"addr add {each} dev {device}{' nodad' if ':' in str(each) else ''}" for each in addresses]


async def _add_namespace(name: str, *settings: str) -> None:
    await _run("ip", "netns", "add", name)
    await _sysctl(name, "net.ipv4.ip_forward=0", *settings)
    await _ip(name, "link set lo up")


async def _remove_namespace(name: str) -> None:
    """With the processes in it: a namespace lives as long as one does."""
    if exists(name):
        await end_processes(name)
        await _run("ip", "netns", "del", name)


async def end_processes(name: str) -> None:
    """All that run in a network namespace. Raises WiringFailed if one stays."""
    deadline = asyncio.get_running_loop().time() + _END_TIMEOUT_S
    while pids := (await _run("ip", "netns", "pids", name)).split():
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        if asyncio.get_running_loop().time() > deadline:
            raise WiringFailed(f"processes in {name} do not end: {' '.join(pids)}")
        await asyncio.sleep(_POLL_S)


async def _delete_link(namespace: str, device: str) -> None:
    if (not namespace or exists(namespace)) and device in await _links(namespace):
        await _ip(namespace, f"link del {device}")


async def _links(namespace: str, *which: str) -> set[str]:
    """Names of interfaces."""
    where = ["-n", namespace] if namespace else []
    lines = (await _run("ip", *where, "-brief", "link", "show", *which)).splitlines()
    return {line.split()[0].partition("@")[0] for line in lines}


async def _sysctl(namespace: str, *settings: str) -> None:
    """sysctl(8), whose package a small machine may lack."""
    for setting in settings:
        name, _, value = setting.partition("=")
        file = f"/proc/sys/{name.replace('.', '/')}"
        await _run("ip", "netns", "exec", namespace, "tee", file, given=value)


async def _ip(namespace: str, *lines: str) -> None:
    """ip(8) in a namespace ("": the caller's), one command a line; the first that fails ends it."""
    where = ["-n", namespace] if namespace else []
    await _run("ip", *where, "-batch", "-", given="\n".join(lines) + "\n")


async def _run(*command: str, given: str = "") -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate(given.encode())
    said = output.decode(errors="replace").strip()
    if process.returncode != 0:
        raise WiringFailed(f"{' '.join(command)}: {said}", remedy="what is left of it goes with: make down")
    return said
