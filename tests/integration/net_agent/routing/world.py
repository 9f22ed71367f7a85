"""Hosts, guests and an outside world as network namespaces, without agents: what routers are tried in.

A switch has two segments: the underlay, where hosts have their tunnels, and the provider's, where the outside is.
A host has bridges as the agent makes them; a guest is a namespace on one of them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface, ip_address, ip_interface, ip_network
from pathlib import Path

from core.ids import bridge_device, device_suffix, uuid7
from net_agent.drivers.linux.namespace import Namespaces
from net_agent.drivers.linux.routing.desired import Resolvers, Routing
from net_agent.drivers.linux.routing.routers import Routers
from net_agent.model import ExternalGateway, FloatingIp, IpAddress, IpInterface, Route, Router, RouterInterface

OUTSIDE = "203.0.113.1"
INTERNET = "198.51.100.7"
TENANT_MTU, PROVIDER_MTU = 1450, 1500


class CommandFailed(AssertionError):
    pass


async def run(namespace: Path, *argv: str, check: bool = True, given: str = "", timeout_s: float = 30.0) -> str:
    """Output and error output. Raises CommandFailed."""
    process = await asyncio.create_subprocess_exec(
        "nsenter", f"--net={namespace}", *argv,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate(given.encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    if check and process.returncode != 0:
        raise CommandFailed(f"{' '.join(argv)}: {output.decode(errors='replace')}")
    return output.decode(errors="replace")


@dataclass(frozen=True)
class TestNetwork:
    """`vni` 0: the provider's segment."""

    __test__ = False
    name: str
    vni: int
    network_id: str = field(default_factory=lambda: str(uuid7()))

    @property
    def bridge(self) -> str:
        return bridge_device(self.network_id)

    @property
    def mtu(self) -> int:
        return TENANT_MTU if self.vni else PROVIDER_MTU


@dataclass(frozen=True)
class TestSubnet:
    """`gateway`: with prefix length."""

    __test__ = False
    network: TestNetwork
    gateway: IpInterface
    subnet_id: str = field(default_factory=lambda: str(uuid7()))

    @property
    def interface(self) -> RouterInterface:
        digits = device_suffix(self.subnet_id)[-6:]
        mac_address = f"fa:16:3f:{digits[:2]}:{digits[2:4]}:{digits[4:]}"
        network = self.network
        return RouterInterface(
            network.network_id, self.subnet_id, mac_address, self.gateway, network.bridge, network.mtu
        )


@dataclass
class Guest:
    """A namespace on a host's bridge."""

    name: str
    host: Host
    subnet: TestSubnet
    address: IpAddress
    mac_address: str
    path: Path
    port_id: str = field(default_factory=lambda: str(uuid7()))

    async def run(self, *argv: str, check: bool = True, given: str = "", timeout_s: float = 30.0) -> str:
        return await run(self.path, *argv, check=check, given=given, timeout_s=timeout_s)

    async def pings(self, address: object) -> bool:
        """Whether one echo request is answered within a second."""
        output = await self.run("busybox", "ping", "-c", "1", "-W", "1", str(address), check=False)
        return "1 packets received" in output

    async def reaches(self, address: object) -> bool:
        """Whether there is an answer, of however many that a busy machine takes."""
        for _ in range(20):
            if await self.pings(address):
                return True
        return False


class Host:
    """One host: its bridges, and its routers."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.name = f"{world.prefix}-h{number}"
        self.address = f"198.18.0.{number}"
        self.outside_address = IPv4Interface(f"203.0.113.{10 + number}/24")
        self.outside_mac = f"0e:00:00:00:00:{number:02x}"
        self.folder = world.folder / f"h{number}"
        self.path = world.namespaces.path(self.name)
        # Of its own, since hosts have namespaces of the same names.
        self.directory = Path("/run") / f"{self.name}-netns"
        self.desired = Routing()
        self._networks: set[str] = set()

    def start_agent(self) -> None:
        self.spaces = Namespaces(host=self.path, directory=self.directory)
        self.routers = Routers(self.spaces, self.folder / "routers")

    async def stop_agent(self) -> None:
        await self.routers.close()
        await asyncio.to_thread(self.spaces.close)

    async def run(self, *argv: str, space: str | None = None, check: bool = True, given: str = "") -> str:
        path = self.path if space is None else self.spaces.path(space)
        return await run(path, *argv, check=check, given=given)

    async def build(self) -> None:
        (self.folder / "routers").mkdir(parents=True)
        await self.world.namespaces.create(self.name)
        await self.world.cable("underlay", self.path, "eth0", f"u{self.number}")
        await self.world.cable("provider", self.path, "eth1", f"p{self.number}")
        await self.run("ip", "link", "set", "lo", "up")
        await self.run("ip", "addr", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("eth0", "eth1"):
            await self.run("ip", "link", "set", device, "up")
        self.start_agent()

    async def has(self, network: TestNetwork) -> None:
        """The network's bridge, with its tunnel or uplink. Broadcasts do go through the tunnel to all hosts."""
        if network.network_id in self._networks:
            return
        self._networks.add(network.network_id)
        bridge = network.bridge
        lines = [f"link add {bridge} mtu {network.mtu} type bridge stp_state 0 forward_delay 0"]
        if network.vni:
            edge = f"vx{network.vni}"
            lines += [
                f"link add {edge} mtu {network.mtu} type vxlan id {network.vni} dstport 4789 nolearning "
                f"local {self.address} dev eth0",
                f"link set {edge} master {bridge} up",
                f"link set {edge} type bridge_slave learning off",
            ]
        else:
            lines.append(f"link set eth1 master {bridge} up")
        lines.append(f"link set {bridge} alias cirra:network:{network.network_id} up")
        await self.run("ip", "-batch", "-", given="\n".join(lines))
        for other in self.world.hosts:
            if network.vni and other is not self:
                await self._learn(network, "00:00:00:00:00:00", other.address)

    async def _learn(self, network: TestNetwork, mac_address: str, address: str) -> None:
        await self.run(
            "bridge", "fdb", "append", mac_address, "dev", f"vx{network.vni}", "dst", address, "self", "static"
        )
        if not mac_address.startswith("00:00:00"):
            await self.run("bridge", "fdb", "replace", mac_address, "dev", f"vx{network.vni}", "master", "static")

    async def guest(self, subnet: TestSubnet, address: str) -> Guest:
        """A guest with a static address; all hosts that have its network know where it is."""
        await self.has(subnet.network)
        number = len(self.world.guests) + 1
        name, tap = f"{self.world.prefix}-g{number}", f"tap{number}"
        mac_address = f"fa:16:3e:00:00:{number:02x}"
        path = self.world.namespaces.path(name)
        guest = Guest(name, self, subnet, ip_address(address), mac_address, path)
        await self.world.namespaces.create(name)
        mtu = subnet.network.mtu
        await self.run(
            "ip", "link", "add", tap, "mtu", str(mtu), "type", "veth",
            "peer", "name", "eth0", "mtu", str(mtu), "address", mac_address, "netns", str(path),
        )  # fmt: skip
        await self.run("ip", "link", "set", tap, "master", subnet.network.bridge, "alias", "cirra:port:x", "up")
        nodad = " nodad" if guest.address.version == 6 else ""
        lines = [
            "link set lo up",
            "link set eth0 up",
            f"addr add {address}/{subnet.gateway.network.prefixlen} dev eth0{nodad}",
            f"route add default via {subnet.gateway.ip}",
        ]
        # It takes no advice from routers, but where a test has it ask for that.
        await guest.run("sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_ra")
        await guest.run("ip", "-batch", "-", given="\n".join(lines))
        self.world.guests.append(guest)
        for host in self.world.hosts:
            if host is not self and subnet.network.vni and subnet.network.network_id in host._networks:
                await host._learn(subnet.network, mac_address, self.address)
        return guest

    # ---- what it is to route

    async def ensure(self) -> None:
        assert await self.routers.ensure(self.desired) == {}
        assert await self.routers.observe(self.desired) == {}


def named(directory: Path, *prefixes: str) -> list[str]:
    """The namespaces whose names begin with one of these."""
    return sorted(entry.name for entry in directory.iterdir() if entry.name.startswith(prefixes))


class World:
    def __init__(self, folder: Path, hosts: int) -> None:
        self.folder = folder
        self.prefix = f"rw{os.urandom(3).hex()}"
        self.namespaces = Namespaces(threads=2)
        self.hosts = [Host(self, number + 1) for number in range(hosts)]
        self.guests: list[Guest] = []
        self.switch, self.outside = (self.namespaces.path(f"{self.prefix}-{name}") for name in ("switch", "outside"))
        self.external = TestNetwork("external", 0)

    async def build(self) -> None:
        await self.namespaces.create(self.switch.name)
        for path in ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables"):
            await run(self.switch, "sh", "-c", f"echo 0 > /proc/sys/net/bridge/{path} || true")
        for segment in ("underlay", "provider"):
            await run(self.switch, "ip", "link", "add", segment, "type", "bridge", "stp_state", "0")
            await run(self.switch, "ip", "link", "set", segment, "up")
        await self.namespaces.create(self.outside.name)
        await self.cable("provider", self.outside, "eth0", "pout")
        lines = [
            "link set lo up",
            "link set eth0 up",
            f"addr add {OUTSIDE}/24 dev eth0",
            "addr add 2001:db8:ffff::1/64 dev eth0 nodad",
            f"addr add {INTERNET}/32 dev lo",
        ]
        await run(self.outside, "ip", "-batch", "-", given="\n".join(lines))
        for host in self.hosts:
            await host.build()

    async def cable(self, segment: str, namespace: Path, device: str, port: str) -> None:
        await run(
            self.switch, "ip", "link", "add", port, "mtu", "1600", "type", "veth",
            "peer", "name", device, "mtu", "1600", "netns", str(namespace),
        )  # fmt: skip
        await run(self.switch, "ip", "link", "set", port, "master", segment, "up")

    async def cut(self, host: Host) -> None:
        for port in (f"u{host.number}", f"p{host.number}"):
            await run(self.switch, "ip", "link", "set", port, "down")

    async def remove(self) -> None:
        for host in self.hosts:
            await host.routers.clear()
            await host.stop_agent()
        for name in named(Path("/run/netns"), self.prefix):
            await self.namespaces.delete(name)
        self.namespaces.close()
        for host in self.hosts:
            if host.directory.exists():
                await run(Path("/proc/self/ns/net"), "umount", "--recursive", str(host.directory))
                host.directory.rmdir()

    # ---- routers

    def router(self, *subnets: TestSubnet, snat: bool = True, way_out: bool = True, **changes: object) -> Router:
        gateway = ExternalGateway(
            network_id=self.external.network_id,
            bridge=self.external.bridge,
            mtu=PROVIDER_MTU,
            host_addresses=(),
            host_mac_address="",
            next_hops=(ip_address(OUTSIDE), ip_address("2001:db8:ffff::1")),
            snat=snat,
        )
        fields = {"router_id": str(uuid7()), "routes": (), "gateway": gateway if way_out else None} | changes
        return Router(interfaces=tuple(subnet.interface for subnet in subnets), **fields)  # type: ignore[arg-type]

    async def tell(
        self,
        routers: Sequence[Router],
        floating: Sequence[FloatingIp] = (),
        metadata: Mapping[str, IPv4Address] | None = None,
        *,
        host_addresses: bool = True,
    ) -> None:
        """Every host of what concerns it: routers with its own address outside, floating IPs of its guests."""
        stations: dict[str, dict[IpAddress, str]] = {}
        for guest in self.guests:
            stations.setdefault(guest.subnet.network.network_id, {})[guest.address] = guest.mac_address
        for host in self.hosts:
            ports = {guest.port_id for guest in self.guests if guest.host is host}
            for subnet_network in {guest.subnet.network for guest in self.guests}:
                await host.has(subnet_network)
            if any(router.gateway is not None for router in routers):
                await host.has(self.external)
            for guest in self.guests:
                if guest.host is not host and guest.subnet.network.vni:
                    await host._learn(guest.subnet.network, guest.mac_address, guest.host.address)
            host.desired = Routing(
                routers=tuple(_on(host, router, host_addresses) for router in routers),
                floating_ips=tuple(each for each in floating if each.port_id in ports),
                stations=stations,
                metadata=metadata or {},
                resolvers={
                    each.subnet_id: Resolvers((each.address.network[2],), "novalocal")
                    for router in routers
                    for each in router.interfaces
                    if each.address.version == 6
                },
            )
            await host.ensure()


def _on(host: Host, router: Router, with_address: bool) -> Router:
    if router.gateway is None:
        return router
    own = (host.outside_address, IPv6Interface(f"2001:db8:ffff::{10 + host.number}/64"))
    addresses = own if with_address else ()
    gateway = replace(router.gateway, host_addresses=addresses, host_mac_address=host.outside_mac)
    return replace(router, gateway=gateway)


def subnet(network: TestNetwork, gateway: str) -> TestSubnet:
    return TestSubnet(network, ip_interface(gateway))


def floating_ip(guest: Guest, address: str, router: Router) -> FloatingIp:
    assert router.gateway is not None
    return FloatingIp(
        str(uuid7()), IPv4Address(address), guest.address, guest.port_id, router.router_id, router.gateway.network_id
    )


def route(destination: str, next_hop: str) -> Route:
    return Route(ip_network(destination), ip_address(next_hop))


@asynccontextmanager
async def a_world(folder: Path, hosts: int) -> AsyncIterator[World]:
    world = World(folder, hosts)
    try:
        await world.build()
        yield world
    finally:
        await world.remove()
