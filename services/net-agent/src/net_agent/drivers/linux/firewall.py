"""Table `bridge cirra` in the kernel: read as JSON, compared, changed by one transaction (nft(8), `nft -j -f -`)."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.ids import tap_device
from net_agent.drivers.base import Faults, NetworkFault
from net_agent.drivers.linux import firewall_rules as rules
from net_agent.drivers.linux import nftables
from net_agent.drivers.linux.bridge import bridge_ports
from net_agent.drivers.linux.dhcp_link import outer_device
from net_agent.drivers.linux.firewall_rules import Json, Rule
from net_agent.drivers.linux.namespace import Namespaces
from net_agent.drivers.linux.part import Lacks
from net_agent.drivers.linux.view import HostView
from net_agent.model import Key, Model, Network, Port
from net_agent.specs.wanted import Scope, Wanted

_TIMEOUT_S = 10.0
# Its messages are read here: in English, please.
_ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


@dataclass(frozen=True, slots=True)
class Table:
    """What the kernel has. chains: the comments of each chain's rules, in order."""

    chains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    members: frozenset[str] = frozenset()
    uplinks: frozenset[str] = frozenset()
    taps: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()

    def has_base(self) -> bool:
        return all(self.has_chain(name, wanted) for name, wanted in rules.base_rules().items())

    def holds(self, services: Collection[str], uplinks: Collection[str]) -> bool:
        """These interfaces are known for what they are."""
        return (
            self.members.issuperset([*services, *uplinks])
            and self.uplinks.issuperset(uplinks)
            and self.services.issuperset(services)
        )

    def has_chain(self, name: str, wanted: Sequence[Rule]) -> bool:
        return self.chains.get(name) == tuple(rule.comment for rule in wanted)


def parse_table(listing: Mapping[str, Any]) -> Table:
    """nft's `list table` as JSON → what of it matters here."""
    chains: dict[str, list[str]] = {}
    elements: dict[str, frozenset[str]] = {}
    for entry in listing["nftables"]:
        if chain := entry.get("chain"):
            chains[chain["name"]] = []
        elif rule := entry.get("rule"):
            chains[rule["chain"]].append(rule.get("comment", ""))
        elif named := entry.get("set") or entry.get("map"):
            elements[named["name"]] = frozenset(
                element[0] if isinstance(element, list) else element for element in named.get("elem", [])
            )
    return Table(
        chains={name: tuple(comments) for name, comments in chains.items()},
        members=elements.get(rules.MEMBERS, frozenset()),
        uplinks=elements.get(rules.UPLINKS, frozenset()),
        taps=elements.get(rules.TAPS, frozenset()),
        services=elements.get(rules.SERVICES, frozenset()),
    )


def ensure_commands(
    table: Table, ports: Sequence[Port], services: Collection[str], uplinks: Collection[str]
) -> list[Json]:
    """What brings the kernel from `table` to one that guards these ports; empty: it does already.

    services, uplinks: what else is on their networks' bridges.
    """
    commands: list[Json] = []
    if not table.has_base():
        commands += rules.base_commands()
    for name, missing in (
        (rules.MEMBERS, {*services, *uplinks, *(port.device for port in ports)} - table.members),
        (rules.UPLINKS, set(uplinks) - table.uplinks),
        (rules.SERVICES, set(services) - table.services),
    ):
        if missing:
            commands.append(rules.command("add", "element", name=name, elem=sorted(missing)))
    for port in ports:
        wanted = rules.port_rules(port)
        if not table.has_chain(port.device, wanted):
            commands += rules.chain_commands(port.device, wanted)
        if port.device not in table.taps:
            element = [port.device, {"jump": {"target": port.device}}]
            commands.append(rules.command("add", "element", name=rules.TAPS, elem=[element]))
    return commands


def remove_commands(table: Table, device: str, others: Collection[str]) -> list[Json]:
    """What takes this tap, and other interfaces that go with it, out of `table`; the table goes with the last tap."""
    if not table.chains:
        return []
    if not table.taps - {device} and not table.members - {device, *others}:
        return [rules.command("delete", "table", name=rules.TABLE)]
    commands: list[Json] = []
    if device in table.taps:
        element = [device, {"jump": {"target": device}}]
        commands.append(rules.command("delete", "element", name=rules.TAPS, elem=[element]))
    sets = ((rules.MEMBERS, table.members), (rules.UPLINKS, table.uplinks), (rules.SERVICES, table.services))
    for name, present in sets:
        if surplus := sorted(present & {device, *others}):
            commands.append(rules.command("delete", "element", name=name, elem=surplus))
    if device in table.chains:
        commands.append(rules.command("flush", "chain", name=device))
        commands.append(rules.command("delete", "chain", name=device))
    return commands


class Firewall:
    """See `Part`. One change at a time: each is made against the table as it was read just before."""

    name = "firewall"

    def __init__(self, namespaces: Namespaces, joint: Callable[[Network], str | None]) -> None:
        """joint: the interface that joins a network to what is beyond this host."""
        self._namespaces = namespaces
        self._joint = joint
        self._lock = asyncio.Lock()
        self._seen: tuple[int, Table] | None = None

    async def ensure(self, wanted: Wanted, scope: Scope) -> Faults:
        """The taps are guarded, before they exist or since; what is right stays untouched."""
        if scope.networks:
            async with self._lock:
                services, uplinks = self._devices(scope.networks)
                await self._apply(ensure_commands(await self.table(), scope.ports, services, uplinks))
        return {}

    async def observe(self, wanted: Wanted, scope: Scope, view: HostView) -> Lacks:
        if not scope.networks:
            return {}
        table = await view.once("table bridge cirra", self.table)
        lacks: dict[Key, str] = {}
        for network in scope.networks:
            services, uplinks = self._devices([network])
            if not (table.has_base() and table.holds(services, uplinks)):
                lacks["network", network.network_id] = "the rules of its bridge are not in force"
        for port in scope.ports:
            if not (
                table.has_chain(port.device, rules.port_rules(port))
                and port.device in table.taps
                and port.device in table.members
            ):
                lacks["port", port.port_id] = "the rules against spoofing are not in force"
        return lacks

    async def remove(self, key: Key, last: Model | None) -> None:
        """Nothing of this tap, nor of the network's own interfaces, is left in the table. Absent is success."""
        match key, last:
            case ("port", _), Port():
                device, others = last.device, frozenset[str]()
            case ("port", port_id), _:
                device, others = tap_device(port_id), frozenset()
            case ("network", network_id), _:
                device = outer_device(network_id)
                others = await self._namespaces.on_host(lambda: bridge_ports(network_id))
            case _:
                return
        async with self._lock:
            await self._apply(remove_commands(await self.table(), device, others))

    async def clear(self) -> None:
        async with self._lock:
            if (await self.table()).chains:
                await self._apply([rules.command("delete", "table", name=rules.TABLE)])

    def _devices(self, networks: Sequence[Network]) -> tuple[set[str], set[str]]:
        """Those that are on the networks' bridges beside taps: the services', and the uplinks."""
        uplinks = {joint for network in networks if (joint := self._joint(network)) is not None}
        return {outer_device(network.network_id) for network in networks}, uplinks

    async def table(self) -> Table:
        """Empty when there is no such table. It is read again when the kernel's rules are others than then."""
        generation = await self._namespaces.on_host(nftables.generation)
        if self._seen is None or self._seen[0] != generation:
            # The number was asked for first: what changes meanwhile is seen by the next look.
            self._seen = generation, await self._read_table()
        return self._seen[1]

    async def _read_table(self) -> Table:
        argv = [_nft(), "-j", "list", "table", rules.FAMILY, rules.TABLE]
        result = await self._run(argv, b"")
        if result.returncode == 0:
            return parse_table(json.loads(result.stdout))
        if b"No such file or directory" in result.stderr:
            return Table()
        raise _fault(result)

    async def _apply(self, commands: Sequence[Json]) -> None:
        if commands:
            result = await self._run([_nft(), "-j", "-f", "-"], json.dumps({"nftables": commands}).encode())
            if result.returncode != 0:
                raise _fault(result)

    async def _run(self, argv: list[str], content: bytes) -> subprocess.CompletedProcess[bytes]:
        def run() -> subprocess.CompletedProcess[bytes]:
            return subprocess.run(
                argv, input=content, capture_output=True, timeout=_TIMEOUT_S, check=False, env=_ENVIRONMENT
            )

        try:
            return await self._namespaces.on_host(run)
        except FileNotFoundError as error:
            raise NetworkFault("nft is not installed", reason="PROGRAM_MISSING", remedy="install nftables") from error
        except subprocess.TimeoutExpired as error:
            raise NetworkFault(f"nft did not end within {_TIMEOUT_S:g} s") from error


def _nft() -> str:
    return shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin") or "nft"


def _fault(result: subprocess.CompletedProcess[bytes]) -> NetworkFault:
    said = (result.stderr or result.stdout).decode(errors="replace").strip()
    return NetworkFault(f"nftables refused a change: {said[:500]}", reason="FIREWALL_REFUSED")
