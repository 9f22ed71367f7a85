"""Hosts that a driver is tried on: a real one, which is a network namespace of its own, and a simulated one."""

from __future__ import annotations

import asyncio
import json
import os
import re
import select
import signal
import subprocess
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Protocol

from core.ids import bridge_device, dhcp_namespace, tap_device, uuid7
from net_agent.drivers.base import NetworkDriver
from net_agent.drivers.linux.driver import LinuxDriver
from net_agent.drivers.linux.files import read_text
from net_agent.drivers.linux.guard.groups import LIMITS
from net_agent.drivers.linux.namespace import NETNS_DIRECTORY, Namespaces
from net_agent.drivers.linux.process import command_line
from net_agent.drivers.linux.proxy import ProxyIdentity
from net_agent.drivers.simulated import SimulatedDriver
from net_agent.model import Network, Port, SecurityGroup, SecurityGroupRule, Subnet
from net_agent.model.kinds import DERIVED_KINDS
from net_agent.teardown import teardown
from tests.contract.network.guest import COMMAND_S, Guest
from tests.contract.network.waiting import PATIENCE_S

# The interface by which hosts reach each other, where there are several.
UNDERLAY = "under0"
PHYSICAL_NETWORKS = {"physnet1": "uplink1"}
METADATA_KEY = b"m" * 32
# What somebody sets of an interface, by ip-link(8)'s names.
_SET = ("ifindex", "ifname", "ifalias", "link", "master", "mtu", "address", "qdisc")
# What rules, not the agent, have put into a set.
_DYNAMIC = re.compile(r"(?<=flags dynamic)\s+elements = {[^}]*}")


def rule(*, egress: bool = False, ip_version: int = 4, **fields: Any) -> SecurityGroupRule:
    """Unless told, lets everything of a family in."""
    anything: dict[str, Any] = dict.fromkeys(
        ("protocol", "ports", "icmp_type", "icmp_code", "remote_cidr", "remote_group_id")
    )
    return SecurityGroupRule(rule_id=str(uuid7()), egress=egress, ip_version=ip_version, **(anything | fields))


def make_group(*rules: SecurityGroupRule) -> SecurityGroup:
    return SecurityGroup(str(uuid7()), rules)


# What ports are in that are not about security groups. Hosts under test know it.
OPEN = make_group(*(rule(egress=egress, ip_version=version) for egress in (True, False) for version in (4, 6)))


def make_network(cidr: str = "10.77.0.0/24", **changes: Any) -> Network:
    network_id, subnet_id = str(uuid7()), str(uuid7())
    whole = IPv4Network(cidr)
    fields: dict[str, Any] = {
        "network_id": network_id,
        "generation": 1,
        "bridge": bridge_device(network_id),
        "mtu": 1450,
        "physical_network": "",
        "dns_domain": "novalocal",
        "subnets": (Subnet(subnet_id, whole, gateway_ip=whole[1], dhcp_ip=whole[2]),),
    }
    return Network(**(fields | changes))


def make_port(network: Network, number: int, **changes: Any) -> Port:
    """Number 11 has the address .11, the MAC address …:0b and the name guest-11."""
    port_id = str(uuid7())
    fields: dict[str, Any] = {
        "port_id": port_id,
        "mac_address": f"fa:16:3e:00:00:{number:02x}",
        "device": tap_device(port_id),
        "hostname": f"guest-{number}",
        "addresses": (IPv4Address(int(network.subnets[0].cidr.network_address) + number),),
        "network": network,
        "active": True,
        "security_group_ids": (OPEN.group_id,),
    }
    return Port(**(fields | changes))


class Host(Protocol):
    """A host under test. `driver` is the agent's; `restart` gives a new one that must find everything again."""

    driver: NetworkDriver

    async def restart(self) -> None: ...

    async def boot(self, port: Port) -> None:
        """The guest of this port comes up and asks for its address."""

    async def fingerprint(self, network: Network) -> object:
        """Changes when anything of a network on this host is made anew, started again, or set anew."""

    async def leftovers(self) -> list[str]:
        """What is on the host that wasn't there at first."""


class SimulatedHost:
    """What is on it is in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.driver: NetworkDriver = self._new_driver()

    async def restart(self) -> None:
        await self.driver.close()
        self.driver = self._new_driver()

    def _new_driver(self) -> SimulatedDriver:
        return SimulatedDriver(self._folder, boot_id="boot-1", physical_networks=tuple(PHYSICAL_NETWORKS))

    async def boot(self, port: Port) -> None:
        """Its guests boot by themselves."""

    async def fingerprint(self, network: Network) -> object:
        return [await self.driver.observe(port) for port in sorted(await self.driver.known_ports())]

    async def leftovers(self) -> list[str]:
        kept = [await self.driver.kept(kind) for kind in DERIVED_KINDS]
        return sorted((await self.driver.known_ports()).union(*kept))


class LinuxHost:
    """A private network namespace; its state is in *folder*. metadata_url: of a service that this host can reach.

    tunnel_address: where it takes in tunnels. netns: where its namespaces are bound, of its own when there are several.
    """

    def __init__(
        self,
        folder: Path,
        metadata_url: str = "http://127.0.0.1:9",
        tunnel_address: IPv4Address | None = None,
        netns: Path = NETNS_DIRECTORY,
    ) -> None:
        self.folder = folder
        self.tunnel_address = tunnel_address
        # Of each port's connections; counts with the next driver.
        self.limits = LIMITS
        self._netns = netns
        self.name = f"host-{os.urandom(4).hex()}"
        self._outer = Namespaces(threads=2)
        self.namespaces = self._own_namespaces()
        key = folder / "metadata.key"
        key.write_bytes(METADATA_KEY)
        self.identity = ProxyIdentity("host-1", metadata_url, Path(), Path(), Path(), key)
        self.guests: list[Guest] = []

    async def start(self) -> None:
        await self._outer.create(self.name)
        await self.command("ip", "link", "set", "lo", "up")
        await self.command("ip", "link", "add", "uplink1", "type", "veth", "peer", "name", "provider1")
        self.driver: NetworkDriver = self.new_driver()
        await self.driver.keep(OPEN)

    @property
    def namespace(self) -> Path:
        """The host itself."""
        return self._outer.path(self.name)

    def _own_namespaces(self) -> Namespaces:
        return Namespaces(host=self.namespace, directory=self._netns)

    def new_driver(self) -> LinuxDriver:
        return LinuxDriver(
            folder=self.folder / "networks",
            identity=self.identity,
            physical_networks=PHYSICAL_NETWORKS,
            namespaces=self._own_namespaces(),
            tunnel_address=self.tunnel_address,
            limits=self.limits,
        )

    async def restart(self, between: Callable[[], None] = lambda: None) -> None:
        """between: what happens while no agent runs."""
        await self.driver.close()
        between()
        self.driver = self.new_driver()

    def lose_records(self) -> None:
        for file in (self.folder / "networks").glob("specs.db*"):
            file.unlink()

    async def stop(self) -> None:
        for guest in self.guests:
            await guest.stop()
        await self.driver.close()
        await teardown(self.folder, self._own_namespaces())
        await self._outer.delete(self.name)
        self.namespaces.close()
        self._outer.close()

    async def guest(self, port: Port, mac_address: str | None = None) -> Guest:
        guest = Guest(self.namespaces, port, self.folder, mac_address)
        await guest.start()
        self.guests.append(guest)
        return guest

    async def unplug_guest(self, guest: Guest) -> None:
        self.guests.remove(guest)
        await guest.stop()

    async def boot(self, port: Port) -> None:
        guest = await self.guest(port)
        assert await guest.dhcp() is not None
        assert await guest.reaches(str(port.network.subnets[0].dhcp_ip))

    async def command(self, *argv: str, namespace: str | None = None) -> str:
        def run() -> str:
            return subprocess.run(argv, capture_output=True, text=True, timeout=COMMAND_S, check=True).stdout

        if namespace is None:
            return await self.namespaces.on_host(run)
        return await self.namespaces.inside(namespace, run)

    def pids(self, network: Network) -> dict[str, int]:
        folder = self.folder / "networks" / network.network_id
        return {name: int((folder / f"{name}.pid").read_text()) for name in ("dnsmasq", "metadata-proxy")}

    async def kill(self, network: Network, name: str) -> None:
        """Kills one of the network's processes, and waits until it is dead."""
        process = os.pidfd_open(self.pids(network)[name])
        try:
            signal.pidfd_send_signal(process, signal.SIGKILL)
            # Readable once it has ended, and its sockets with it; its command line goes before them.
            ended, _, _ = await asyncio.to_thread(select.select, [process], [], [], PATIENCE_S)
            assert ended, f"{name} does not end"
        finally:
            os.close(process)

    async def fingerprint(self, network: Network) -> object:
        """Interfaces as they were set, process ids with start times, rules with their handles."""
        links = _settings(json.loads(await self.command("ip", "-j", "-d", "link")))
        inner = await self.command("ip", "-o", "addr", namespace=dhcp_namespace(network.network_id))
        rules = _DYNAMIC.sub("", await self.command("nft", "-a", "list", "ruleset"))
        processes = {
            name: (pid, command_line(pid), read_text(Path(f"/proc/{pid}/stat")).split()[21])
            for name, pid in self.pids(network).items()
        }
        return links, inner, _without_counters(rules), processes

    async def leftovers(self) -> list[str]:
        links = [
            line.split()[1].split("@")[0].rstrip(":") for line in (await self.command("ip", "-o", "link")).splitlines()
        ]
        found = [link for link in links if link not in ("lo", "uplink1", "provider1", UNDERLAY)]
        found += [name for name in self.networks_left() if self.namespaces.exists(dhcp_namespace(name))]
        found += self.networks_left()
        found += self.spaces_left()
        found += (await self.command("nft", "list", "tables")).splitlines()
        found += [" ".join(line) for line in self.processes()]
        return found

    def networks_left(self) -> list[str]:
        folder = self.folder / "networks"
        return [entry.name for entry in folder.iterdir() if entry.is_dir()] if folder.exists() else []

    def spaces_left(self) -> list[str]:
        """Namespaces of routers that this host remembers."""
        record = self.folder / "routers" / "namespaces.json"
        names: list[str] = json.loads(record.read_text()) if record.exists() else []
        return names

    def processes(self) -> Sequence[tuple[str, ...]]:
        """Every process that has something of this host on its command line."""
        lines = (command_line(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit())
        own = (str(self.folder / "networks"), str(self.folder / "routers"))
        return [line for line in lines if any(each in part for part in line for each in own)]


def _settings(links: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what the kernel makes of them, and shows a moment later: carriers, and what timers and counts say."""
    return [
        {name: link.get(name) for name in _SET}
        | {"up": "UP" in link["flags"], "kind": link.get("linkinfo", {}).get("info_kind")}
        for link in links
    ]


def _without_counters(text: str) -> str:
    words = text.split()
    return " ".join(
        word for before, word in zip(["", *words], words, strict=False) if before not in ("packets", "bytes")
    )
