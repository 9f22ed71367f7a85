"""What this host has been told to wire, on its own disk: one folder a network, one file a port.

A record is written before the first thing is made and removed after the last is gone, so that whatever dies in between,
somebody still knows. It also lets one port's change write the DHCP files of all ports of its network.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from google.protobuf import json_format
from google.protobuf.message import Message

from cirra.agent.v1 import desired_pb2
from core.ids import parse_uuid
from core.pki.files import write_public
from net_agent.drivers.linux.files import make_folder
from net_agent.model import Network, Port, network_from_spec, network_to_spec, port_from_spec, port_to_spec


class Records:
    """Kept in memory, and written through: the agent is the only writer of its folder.

    They are read once the folder is there, and it is made with the first record: as long as its file system is not
    mounted, nothing is known, and nothing is made in its place.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ports: dict[str, Port] = {}
        self._networks: dict[str, Network] = {}
        self._loaded = False

    def network_folder(self, network_id: str) -> Path:
        return self.folder / network_id

    def port(self, port_id: str) -> Port | None:
        self._load()
        return self._ports.get(port_id)

    def ports(self, network_id: str | None = None) -> list[Port]:
        self._load()
        return [port for port in self._ports.values() if network_id in (None, port.network.network_id)]

    def network(self, network_id: str) -> Network | None:
        """As its newest description has it, whichever port came with that."""
        self._load()
        return self._networks.get(network_id)

    def network_ids(self) -> frozenset[str]:
        """Also of networks of which nothing but a folder is left."""
        if not self.folder.is_dir():
            return frozenset()
        folders = (entry.name for entry in self.folder.iterdir() if entry.is_dir())
        return frozenset(name for name in folders if parse_uuid(name) is not None)

    def keep(self, port: Port) -> Network:
        """Returns the network as it shall be: of two descriptions of one generation, the later one."""
        self._load()
        folder = self.network_folder(port.network.network_id)
        for each in (self.folder, folder, folder / "ports"):
            make_folder(each)
        network = self._networks.get(port.network.network_id)
        if network is None or port.network.generation >= network.generation:
            network = port.network
        if self._networks.get(network.network_id) != network:
            _write(folder / "network.json", network_to_spec(network))
            self._networks[network.network_id] = network
        if self._ports.get(port.port_id) != port:
            _write(self._port_file(port), port_to_spec(port))
            self._ports[port.port_id] = port
        return network

    def forget(self, port_id: str) -> None:
        self._load()
        port = self._ports.pop(port_id, None)
        if port is not None:
            self._port_file(port).unlink(missing_ok=True)

    def forget_network(self, network_id: str) -> None:
        """With it go its files: DHCP's, leases, logs."""
        self._load()
        self._networks.pop(network_id, None)
        folder = self.network_folder(network_id)
        if folder.exists():
            shutil.rmtree(folder)

    def _load(self) -> None:
        """Once; not before the folder is there."""
        if self._loaded or not self.folder.is_dir():
            return
        for path in sorted(self.folder.glob("*/network.json")):
            spec = json_format.Parse(path.read_text(), desired_pb2.NetworkSpec())
            self._networks[spec.network_id] = network_from_spec(spec)
        for path in sorted(self.folder.glob("*/ports/*.json")):
            port = port_from_spec(json_format.Parse(path.read_text(), desired_pb2.PortSpec()))
            self._ports[port.port_id] = port
            self._networks.setdefault(port.network.network_id, port.network)
        self._loaded = True

    def _port_file(self, port: Port) -> Path:
        return self.network_folder(port.network.network_id) / "ports" / f"{port.port_id}.json"


def _write(path: Path, message: Message) -> None:
    write_public(path, json_format.MessageToJson(message, sort_keys=True).encode())
