"""All that this host shall have, typed, in memory, with the ways from one object to another. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from net_agent.model import (
    FloatingIp,
    GroupMember,
    Key,
    Model,
    Network,
    Peer,
    Port,
    Router,
    SecurityGroup,
    key_of,
)


@dataclass(slots=True)
class Wanted:
    """By id. A network *stands* on this host when a port of it is here, or when it is an object of its own.

    networks: objects of their own. port_networks: as ports brought them along; of two descriptions of a network the
    higher generation holds (`network`).
    """

    ports: dict[str, Port] = field(default_factory=dict)
    networks: dict[str, Network] = field(default_factory=dict)
    port_networks: dict[str, Network] = field(default_factory=dict)
    peers: dict[str, Peer] = field(default_factory=dict)
    routers: dict[str, Router] = field(default_factory=dict)
    floating_ips: dict[str, FloatingIp] = field(default_factory=dict)
    security_groups: dict[str, SecurityGroup] = field(default_factory=dict)
    group_members: dict[str, GroupMember] = field(default_factory=dict)
    _ports_on: defaultdict[str, dict[str, Port]] = field(default_factory=lambda: defaultdict(dict))
    _peers_on: defaultdict[str, dict[str, Peer]] = field(default_factory=lambda: defaultdict(dict))

    def get(self, key: Key) -> Model | None:
        kind, object_id = key
        return self._of_kind(kind).get(object_id)

    def keys(self, kind: str) -> frozenset[str]:
        """The ids of one kind."""
        return frozenset(self._of_kind(kind))

    def put(self, model: Model) -> None:
        kind, object_id = key_of(model)
        self.remove((kind, object_id))
        self._of_kind(kind)[object_id] = model
        match model:
            case Port():
                self._ports_on[model.network.network_id][object_id] = model
                known = self.port_networks.get(model.network.network_id)
                if known is None or model.network.generation >= known.generation:
                    self.port_networks[model.network.network_id] = model.network
            case Peer():
                self._peers_on[model.network_id][object_id] = model

    def remove(self, key: Key) -> Model | None:
        """The last description of a network outlives the port that brought it, as long as the network stands."""
        kind, object_id = key
        model = self._of_kind(kind).pop(object_id, None)
        match model:
            case Port():
                self._ports_on[model.network.network_id].pop(object_id)
            case Peer():
                self._peers_on[model.network_id].pop(object_id)
        return model

    def stands(self, network_id: str) -> bool:
        return network_id in self.networks or bool(self._ports_on.get(network_id))

    def network(self, network_id: str) -> Network | None:
        """The network by its newest description; None: it doesn't stand here."""
        if not self.stands(network_id):
            return None
        own, ports = self.networks.get(network_id), self.port_networks.get(network_id)
        if own is None or (ports is not None and ports.generation > own.generation):
            return ports
        return own

    def standing(self) -> list[Network]:
        ids = self.networks.keys() | {network_id for network_id, ports in self._ports_on.items() if ports}
        return [network for network_id in sorted(ids) if (network := self.network(network_id)) is not None]

    def ports_on(self, network_id: str) -> list[Port]:
        """Those of this host."""
        return list(self._ports_on.get(network_id, {}).values())

    def peers_on(self, network_id: str) -> list[Peer]:
        return list(self._peers_on.get(network_id, {}).values())

    def forget_network(self, network_id: str) -> None:
        """Nothing of it is here any more: nor need anybody know what its ports said of it."""
        if not self.stands(network_id):
            self.port_networks.pop(network_id, None)
            self._ports_on.pop(network_id, None)
            if not self._peers_on.get(network_id):
                self._peers_on.pop(network_id, None)

    def _of_kind(self, kind: str) -> dict[str, Model]:
        kinds: Mapping[str, dict] = {
            "port": self.ports,
            "network": self.networks,
            "peer": self.peers,
            "router": self.routers,
            "floating-ip": self.floating_ips,
            "security-group": self.security_groups,
            "group-member": self.group_members,
        }
        return kinds[kind]


@dataclass(frozen=True, slots=True)
class Scope:
    """What one pass over the parts of a host is about.

    keys: the objects that changed, came, went, or were found to be wrong. networks: those that stand and are concerned.
    ports: those that are to be looked at one by one, each with its network's newest description.
    """

    keys: frozenset[Key]
    networks: tuple[Network, ...]
    ports: tuple[Port, ...]

    @classmethod
    def of(cls, wanted: Wanted, keys: Collection[Key], networks: Iterable[str] = ()) -> Scope:
        """*networks*: also concerned, by what has gone from them. With a network come all its ports."""
        whole = {object_id for kind, object_id in keys if kind == "network"}
        single = [port for kind, object_id in keys if kind == "port" and (port := wanted.ports.get(object_id))]
        peers = [peer for kind, object_id in keys if kind == "peer" and (peer := wanted.peers.get(object_id))]
        concerned = {*whole, *networks, *(it.network.network_id for it in single), *(it.network_id for it in peers)}
        standing = {it: network for it in sorted(concerned) if (network := wanted.network(it)) is not None}
        ports = {port.port_id: port for network_id in whole for port in wanted.ports_on(network_id)}
        ports |= {port.port_id: port for port in single}
        return cls(
            frozenset(keys),
            tuple(standing.values()),
            tuple(
                replace(port, network=standing[port.network.network_id])
                for port in ports.values()
                if port.network.network_id in standing
            ),
        )

    @classmethod
    def whole(cls, wanted: Wanted) -> Scope:
        """All of the host."""
        kinds = ("port", "network", "peer", "router", "floating-ip", "security-group", "group-member")
        keys = {(kind, object_id) for kind in kinds for object_id in wanted.keys(kind)}
        return cls.of(wanted, keys | {("network", network.network_id) for network in wanted.standing()})

    @property
    def is_empty(self) -> bool:
        return not (self.keys or self.networks or self.ports)

    def all_keys(self) -> frozenset[Key]:
        """Of all that is in it, also what is only concerned."""
        networks = {("network", network.network_id) for network in self.networks}
        return self.keys | networks | {("port", port.port_id) for port in self.ports}

    def without(self, faulty: Collection[Key]) -> Scope:
        """What is left when these are given up: with a network, all that is on it."""
        networks = {object_id for kind, object_id in faulty if kind == "network"}
        return Scope(
            self.keys.difference(faulty),
            tuple(network for network in self.networks if network.network_id not in networks),
            tuple(
                port
                for port in self.ports
                if port.network.network_id not in networks and ("port", port.port_id) not in faulty
            ),
        )

    def of_kind(self, kind: str) -> list[str]:
        """The ids of the changed objects of one kind."""
        return sorted(object_id for each, object_id in self.keys if each == kind)
