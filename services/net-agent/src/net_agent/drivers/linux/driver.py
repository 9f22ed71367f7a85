"""Puts the parts of a host together.

A host's network is made of parts (`part.Part`), a module each: bridges and segments, the rules that guard taps, taps,
services of guests, … Each makes its share from all that is known to this host, by difference, and they meet only in
that knowledge (`net_agent.specs`) and in the order in which they run:

    segments → firewall → taps → peers → services → routers        making: a guest has no moment without rules
    segments ← firewall ← taps ← peers ← services ← routers        removing: what is made last goes first

A change is written down, then one *pass* over the parts carries it out for the objects concerned (`Scope`). There is a
lane for each network and one for what belongs to none: in a lane one pass at a time, and what is asked for meanwhile
goes along with the next one. What goes wrong with one object keeps only that from the parts that follow. `heal` asks
all parts what of the whole host isn't in place, and passes over just that.

To add a part: a class in a module of its own, and a line in `_parts`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import structlog

from core.ids import parse_uuid
from net_agent.diagnosis.ground import Ground
from net_agent.diagnosis.probe.voice import remove_leftovers
from net_agent.drivers.base import ABSENT, DriverInfo, Faults, Lease, Neighbour, NetworkFault, PortState
from net_agent.drivers.linux import bridge, tap, uplink_probe
from net_agent.drivers.linux.bandwidths import Bandwidths
from net_agent.drivers.linux.census import network_parts
from net_agent.drivers.linux.faults import kernel_faults, noted
from net_agent.drivers.linux.firewall import Firewall
from net_agent.drivers.linux.guard.groups import LIMITS, Limits
from net_agent.drivers.linux.link_table import LinkTable
from net_agent.drivers.linux.namespace import Namespaces
from net_agent.drivers.linux.part import Lacks, Part
from net_agent.drivers.linux.peers import Peers
from net_agent.drivers.linux.proxy import ProxyIdentity
from net_agent.drivers.linux.routing.part import RoutingPart
from net_agent.drivers.linux.segments import Segments
from net_agent.drivers.linux.services import Services
from net_agent.drivers.linux.taps import Taps
from net_agent.drivers.linux.view import HostView
from net_agent.model import Derived, FloatingIp, IpAddress, Key, Model, Network, Peer, Port, Router, key_of
from net_agent.specs.batch import Batch
from net_agent.specs.specifications import Specifications
from net_agent.specs.wanted import Scope

_log = structlog.get_logger(__name__)
# Ports that are looked at without reading of all interfaces.
_ONE_BY_ONE = 8
# What belongs to no single network.
_ROUTERS, _GROUPS, _STRAYS = "routers", "groups", "strays"


class LinuxDriver:
    """See `NetworkDriver` for what each method promises."""

    def __init__(
        self,
        *,
        folder: Path,
        identity: ProxyIdentity,
        physical_networks: Mapping[str, str],
        namespaces: Namespaces,
        tunnel_address: IpAddress | None = None,
        limits: Limits = LIMITS,
    ) -> None:
        """limits: of each port's connections."""
        self._tunnel_address = tunnel_address
        self._namespaces = namespaces
        self._specs = Specifications(folder)
        self._identity = identity
        self._links = LinkTable(namespaces)
        self._segments = Segments(namespaces, physical_networks, tunnel_address)
        self._services = Services(namespaces, identity, folder)
        self._routing = RoutingPart(namespaces, folder.parent / "routers", lambda: self._specs.wanted)
        self._parts: Sequence[Part] = (
            self._segments,
            Firewall(namespaces, self._segments.joint, self._specs, limits),
            Taps(namespaces),
            Bandwidths(namespaces, self._links),
            Peers(namespaces, self._links),
            self._services,
            self._routing,
        )
        self._lanes: dict[str, Batch[Key, Faults]] = {}
        self._looks: Batch[Key, Sequence[Lacks]] = Batch(self._look_at)

    @property
    def info(self) -> DriverInfo:
        return DriverInfo(
            name="linux",
            simulated=False,
            physical_networks=self._segments.physical_networks,
            tunnel_address=str(self._tunnel_address or ""),
        )

    # ---- ports

    async def plug(self, port: Port) -> PortState:
        known = self._specs.wanted.ports.get(port.port_id)
        if known is not None and known.network.network_id != port.network.network_id:
            raise NetworkFault(
                f"port {port.port_id} is on network {known.network.network_id} here",
                reason="PORT_MOVED",
                remedy="remove the port from this host first",
                retryable=False,
            )
        self._segments.joint(port.network)
        news = await self._specs.keep(port)
        key, network_key = ("port", port.port_id), ("network", port.network.network_id)
        if not news and (state := await self.observe(port.port_id)).wired:
            return state
        faults = await self._pass(port.network.network_id, {key, *news})
        for fault in (faults.get(key), faults.get(network_key)):
            if fault is not None:
                raise fault
        return await self._settled(port)

    async def _settled(self, port: Port) -> PortState:
        """As it is observed while nothing is under way with its network or with groups: what a port, a rule or a member
        that comes meanwhile still lacks there is not lacking to this one."""
        lanes = [self._batch(lane) for lane in (port.network.network_id, _GROUPS)]
        while True:
            quiet, begun = not any(lane.busy for lane in lanes), [lane.begun for lane in lanes]
            state = await self.observe(port.port_id)
            if state.wired or (quiet and begun == [lane.begun for lane in lanes]):
                return state
            for lane in lanes:
                await lane.landed()

    async def unplug(self, port_id: str) -> None:
        last = self._specs.leave(("port", port_id))
        network_id = last.network.network_id if isinstance(last, Port) else (await self._plugged()).get(port_id)
        faults = await self._pass(network_id or _STRAYS, {("port", port_id)})
        for fault in faults.values():
            raise fault

    async def observe(self, port_id: str) -> PortState:
        port = self._specs.wanted.ports.get(port_id)
        if port is None:
            left = ("port", port_id) in self._specs.leaving or port_id in await self._plugged()
            return PortState(present=True, lacking=("no record tells of it",)) if left else ABSENT
        lacks = await self._looks.ask([("port", port_id)])
        keys = ("port", port_id), ("network", port.network.network_id)
        return PortState(present=True, lacking=tuple(each[key] for each in lacks for key in keys if key in each))

    async def active_ports(self) -> Sequence[Port]:
        return [port for port in self._specs.wanted.ports.values() if port.active]

    async def known_ports(self) -> frozenset[str]:
        leaving = (object_id for kind, object_id in self._specs.leaving if kind == "port")
        return self._specs.wanted.keys("port") | (await self._plugged()).keys() | frozenset(leaving)

    # ---- derived objects

    async def keep(self, wanted: Derived) -> None:
        key = key_of(wanted)
        news = await self._specs.keep(wanted)
        faults = await self._pass(_lane(wanted), {key, *news})
        if key in faults:
            raise faults[key]

    async def drop(self, kind: str, object_id: str) -> None:
        key = (kind, object_id)
        last = self._specs.leave(key)
        faults = await self._pass(_lane(last) if last is not None else _STRAYS, {key})
        for fault in faults.values():
            raise fault

    async def kept(self, kind: str) -> frozenset[str]:
        leaving = (object_id for each, object_id in self._specs.leaving if each == kind)
        return self._specs.wanted.keys(kind) | frozenset(leaving)

    async def heal(self) -> Faults:
        lacks = await self._look(Scope.whole(self._specs.wanted), HostView(self._links, whole=True))
        keys = {key for each in lacks for key in each}
        for part, found in zip(self._parts, lacks, strict=True):
            for (kind, object_id), text in found.items():
                _log.warning("not as it shall be", part=part.name, kind=kind, object_id=object_id, lacks=text)
        lanes: defaultdict[str, set[Key]] = defaultdict(set)
        for key in keys | self._specs.leaving.keys():
            model = self._specs.wanted.get(key) or self._specs.wanted.network(key[1]) or self._specs.leaving.get(key)
            lanes[_lane(model) if model is not None else _STRAYS].add(key)
        outcomes = await asyncio.gather(*(self._pass(lane, keys) for lane, keys in lanes.items()))
        return {key: fault for faults in outcomes for key, fault in faults.items()}

    async def conditions(self) -> Faults:
        asked = list(self._segments.gateways(self._specs.wanted.standing()))
        told = await asyncio.gather(*(uplink_probe.fault(self._namespaces, each) for each in asked))
        return {("network", where.network_id): fault for where, fault in zip(asked, told, strict=True) if fault}

    # ---- what is seen of guests

    async def portless_networks(self) -> Mapping[str, Sequence[str]]:
        # Looked at first: a record comes before the first thing of its network, and goes after the last.
        found = await self._namespaces.on_host(lambda: network_parts(self._specs.folder))
        known = {network.network_id for network in self._specs.wanted.standing()} | {*(await self._plugged()).values()}
        leaving = {it.network.network_id for it in self._specs.leaving.values() if isinstance(it, Port)}
        return {network_id: parts for network_id, parts in found.items() if network_id not in known | leaving}

    async def leases(self, network_ids: frozenset[str] | None = None) -> Sequence[Lease]:
        found = []
        for network_id, ports in self._active_by_network(network_ids).items():
            owners = {(port.mac_address, address): port for port in ports for address in port.addresses}
            for entry in await asyncio.to_thread(self._services.of(network_id).leases):
                owner = owners.get((entry.mac_address, entry.ip_address))
                if owner is not None:
                    found.append(Lease(owner.port_id, entry.mac_address, str(entry.ip_address), entry.hostname))
        return found

    async def neighbours(self, network_ids: frozenset[str] | None = None) -> Sequence[Neighbour]:
        found = []
        for network_id, ports in self._active_by_network(network_ids).items():
            owners = {port.mac_address: port.port_id for port in ports}
            for mac_address, ip_address in await self._services.of(network_id).neighbours():
                if mac_address in owners:
                    found.append(Neighbour(owners[mac_address], mac_address, ip_address))
        return found

    # ---- diagnosis

    async def ground(self, port_id: str) -> Ground | None:
        """What a diagnosis of the port stands on; None: this host was never told of it."""
        scope = Scope.of(self._specs.wanted, {("port", port_id)})
        if not scope.ports:
            return None
        return Ground(
            port=scope.ports[0],
            scope=scope,
            wanted=self._specs.wanted,
            parts=self._parts,
            joint=self._segments.joint,
            uplink_of=self._segments.uplink_of,
            folder=self._specs.folder / scope.ports[0].network.network_id,
            namespaces=self._namespaces,
            identity=self._identity,
        )

    async def clear_probes(self) -> None:
        """What a diagnosis has left that was cut short by the end of its agent."""
        await self._namespaces.on_host(remove_leftovers)

    # ---- the end

    async def remove_everything(self) -> None:
        """All that Cirra made on this host, by its records and by the marks on what it made; nothing else."""
        await self.clear_probes()
        networks = await self._all_networks()
        for part in reversed(self._parts):
            await part.clear()
            for network_id in networks:
                await part.remove(("network", network_id), None)
        await self._specs.forget_all()

    async def _all_networks(self) -> frozenset[str]:
        """Also those of which nothing but a folder, or a bridge, is left."""
        folder = self._specs.folder
        folders = {entry.name for entry in folder.iterdir() if entry.is_dir()} if folder.is_dir() else set()
        bridged = await self._namespaces.on_host(bridge.bridged_networks)
        standing = {network.network_id for network in self._specs.wanted.standing()}
        return bridged | standing | {name for name in folders if parse_uuid(name) is not None}

    async def close(self) -> None:
        """What is under way is brought to its end."""
        for lane in list(self._lanes.values()):
            await lane.idle()
        await self._routing.close()
        await self._looks.idle()
        await self._specs.close()
        self._links.close()
        await asyncio.to_thread(self._namespaces.close)

    # ---- passes

    async def _pass(self, lane: str, keys: Collection[Key]) -> Faults:
        return await self._batch(lane).ask(keys)

    def _batch(self, lane: str) -> Batch[Key, Faults]:
        if lane not in self._lanes:
            self._lanes[lane] = Batch(self._pass_once)
        return self._lanes[lane]

    async def _pass_once(self, keys: tuple[Key, ...]) -> Faults:
        """What is no longer wanted goes, then what is wanted is made; returns what went wrong."""
        leaving = {key: self._specs.leaving[key] for key in keys if key in self._specs.leaving}
        fallen = await self._fallen(leaving)
        faults = await self._remove({key: last for key, last in leaving.items() if key[0] != "network"} | fallen)
        # The guest of a port that comes or goes is one of another host no longer, or again.
        known = self._specs.wanted.peers
        peers = {("peer", object_id) for kind, object_id in keys if kind == "port" and object_id in known}
        scope = Scope.of(self._specs.wanted, peers.union(keys) - leaving.keys(), _networks_of(leaving.items()))
        faults |= await self._ensure(scope)
        # Last of all: who comes again after a failure must still find it.
        for key in leaving.keys() - faults.keys():
            await self._specs.forget(key)
        for key in fallen.keys() - faults.keys():
            await self._specs.forget_network(key[1])
        return faults

    async def _remove(self, gone: Mapping[Key, Model | None]) -> dict[Key, NetworkFault]:
        faults: dict[Key, NetworkFault] = {}
        for part in reversed(self._parts):
            for key, last in gone.items():
                # A network stays as long as something of a port may be on it.
                if key not in faults and not (faults and key[0] == "network"):
                    with noted(faults, [key], f"remove {key[0]} {key[1]}"):
                        await part.remove(key, last)
        return faults

    async def _ensure(self, scope: Scope) -> dict[Key, NetworkFault]:
        faults: dict[Key, NetworkFault] = {}
        for part in self._parts:
            if scope.is_empty:
                break
            found: dict[Key, NetworkFault] = {}
            with noted(found, scope.all_keys(), part.name):
                found |= await part.ensure(self._specs.wanted, scope)
            faults |= found
            scope = scope.without(found)
        return faults

    async def _fallen(self, leaving: Mapping[Key, Model | None]) -> dict[Key, Model | None]:
        """The networks that don't stand here any more with these gone."""
        concerned: set[str] = _networks_of(leaving.items())
        if any(kind == "port" for kind, _ in leaving):
            plugged = await self._plugged()
            concerned |= {network_id for it, network_id in plugged.items() if ("port", it) in leaving and network_id}
            # It may be one of which no record tells: nothing is taken from under it.
            concerned -= {
                network_id for it, network_id in plugged.items() if ("port", it) not in leaving and network_id
            }
        wanted = self._specs.wanted
        return {
            ("network", network_id): wanted.port_networks.get(network_id)
            for network_id in concerned
            if not wanted.stands(network_id)
        }

    async def _look_at(self, keys: Collection[Key]) -> Sequence[Lacks]:
        return await self._look(
            Scope.of(self._specs.wanted, keys), HostView(self._links, whole=len(keys) > _ONE_BY_ONE)
        )

    async def _look(self, scope: Scope, view: HostView) -> Sequence[Lacks]:
        with kernel_faults("look at the host"):
            return [await part.observe(self._specs.wanted, scope, view) for part in self._parts]

    def _active_by_network(self, network_ids: frozenset[str] | None) -> Mapping[str, list[Port]]:
        networks: defaultdict[str, list[Port]] = defaultdict(list)
        for port in self._specs.wanted.ports.values():
            if port.active and (network_ids is None or port.network.network_id in network_ids):
                networks[port.network.network_id].append(port)
        return networks

    async def _plugged(self) -> dict[str, str | None]:
        return await self._namespaces.on_host(tap.plugged_ports)


def _lane(model: Model) -> str:
    """Where the passes for this object are made."""
    match model:
        case Port():
            return model.network.network_id
        case Network() | Peer():
            return model.network_id
        case Router() | FloatingIp():
            return _ROUTERS
    return _GROUPS


def _networks_of(gone: Iterable[tuple[Key, Model | None]]) -> set[str]:
    """Those that look different without these objects."""
    networks = {last.network.network_id for _, last in gone if isinstance(last, Port)}
    networks |= {last.network_id for _, last in gone if isinstance(last, Peer)}
    return networks | {object_id for (kind, object_id), _ in gone if kind == "network"}
