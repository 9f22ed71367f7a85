"""What this host has been told, in memory and written through to its disk.

A specification is on disk before the first thing is made by it, and goes after the last is gone, so that whatever dies
in between, somebody still knows. With all of them the host's network is made right without the control plane.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import structlog
from google.protobuf.message import Message

from cirra.agent.v1.desired_pb2 import NetworkSpec
from core.errors import InvalidArgument
from net_agent.model import Key, Model, Network, Port, from_spec, key_of, network_from_spec, network_to_spec, to_spec
from net_agent.model.kinds import BY_NAME
from net_agent.specs.store import SpecStore
from net_agent.specs.wanted import Wanted

_log = structlog.get_logger(__name__)
# A network as ports brought it along; that is no object that anybody would remove.
_PORT_NETWORK = "port-network"


class Specifications:
    """They are read once the folder is there, and it is made with the first one: as long as its file system is not
    mounted, nothing is known, and nothing is made in its place."""

    def __init__(self, folder: Path, *, synced: bool = True) -> None:
        self.folder = folder
        self._store = SpecStore(folder, synced=synced)
        self._wanted = Wanted()
        self._leaving: dict[Key, Model | None] = {}
        self._loaded = False
        self._changes: Counter[str] = Counter()

    def changes(self, *kinds: str) -> int:
        """A number that rises when what is wanted of these kinds, or leaves, becomes another: what follows from that is
        good until then. "network" is also what ports say of theirs."""
        self._load()
        return sum(self._changes[kind] for kind in kinds)

    @property
    def wanted(self) -> Wanted:
        self._load()
        return self._wanted

    @property
    def leaving(self) -> Mapping[Key, Model | None]:
        """What is no longer wanted, and may still be here: its last specification; None when no record told of it."""
        return self._leaving

    async def keep(self, model: Model) -> frozenset[Key]:
        """The keys of what is news by it: a network too that stands here from now on, or is described anew by its port.

        Raises Unavailable.
        """
        wanted, key = self.wanted, key_of(model)
        if wanted.get(key) == model:
            return frozenset()
        changes: dict[Key, bytes | None] = {key: _bytes(to_spec(model))}
        news = {key}
        if isinstance(model, Port) and not wanted.stands(model.network.network_id):
            news.add(("network", model.network.network_id))
        if isinstance(model, Port) and _is_newer(model.network, wanted):
            changes[_PORT_NETWORK, model.network.network_id] = _bytes(network_to_spec(model.network))
            if wanted.network(model.network.network_id) != model.network:
                news.add(("network", model.network.network_id))
        await self._store.write(changes)
        self._leaving.pop(key, None)
        wanted.put(model)
        self._changed(news)
        return frozenset(news)

    def leave(self, key: Key) -> Model | None:
        """It is no longer wanted; `forget` follows when nothing of it is left. Its last specification, if there was."""
        self._leaving[key] = self.wanted.remove(key) or self._leaving.get(key)
        self._changed([key])
        return self._leaving[key]

    async def forget(self, key: Key) -> None:
        """Nothing of it is left on this host. Raises Unavailable."""
        self._load()
        await self._store.write({key: None})
        self._leaving.pop(key, None)
        self._changed([key])

    async def forget_network(self, network_id: str) -> None:
        """Nothing of the network is left on this host."""
        if not self.wanted.stands(network_id):
            await self._store.write({(_PORT_NETWORK, network_id): None})
            self.wanted.forget_network(network_id)
            self._changed([("network", network_id)])

    async def forget_all(self) -> None:
        """Nothing of anything is left on this host; nor is there a record."""
        await self._store.delete()
        self._wanted, self._leaving = Wanted(), {}
        self._changes.update(BY_NAME.keys())

    def _changed(self, keys: Iterable[Key]) -> None:
        self._changes.update(kind for kind, _ in keys)

    async def close(self) -> None:
        await self._store.close()

    def _load(self) -> None:
        if self._loaded or not self.folder.is_dir():
            return
        for (kind, object_id), content in self._store.load():
            try:
                self._take_in(kind, content)
            except InvalidArgument as error:
                # Written by a version that let it pass. The conductor tells it again, and then who sent it hears why.
                _log.error("a specification on disk is refused", kind=kind, object_id=object_id, error=str(error))
        self._loaded = True
        self._changes.update(BY_NAME.keys())

    def _take_in(self, kind: str, content: bytes) -> None:
        if kind == _PORT_NETWORK:
            network = network_from_spec(NetworkSpec.FromString(content))
            if _is_newer(network, self._wanted):
                self._wanted.port_networks[network.network_id] = network
        else:
            self._wanted.put(from_spec(kind, BY_NAME[kind].message.FromString(content)))


def _is_newer(network: Network, wanted: Wanted) -> bool:
    """Than what ports have said of it; of two descriptions of one generation, the later one holds."""
    known = wanted.port_networks.get(network.network_id)
    return known is None or (network.generation >= known.generation and network != known)


def _bytes(spec: Message) -> bytes:
    return spec.SerializeToString(deterministic=True)
