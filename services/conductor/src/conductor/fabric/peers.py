"""Object `peer`: a port whose guest runs on another host, for hosts that have its network."""

from __future__ import annotations

from collections.abc import Iterator

from cirra.agent.v1 import fabric_pb2 as fabric
from cirra.network.v1 import network_pb2 as public
from conductor.fabric.facts import Binding, Facts
from conductor.fabric.kind import Cell
from conductor.fabric.networks import network


class PeerKind:
    """Object `peer`. Its object id is the port's."""

    name = "peer"

    def __init__(self) -> None:
        self._made: tuple[Binding, str, fabric.PeerSpec] | None = None

    def affected(self, facts: Facts) -> Iterator[Cell]:
        for before, after in facts.bindings.changed():
            binding = after or before
            assert binding is not None
            # Those that have lost the network with it are among the changes of presence.
            for host in facts.hosts_with(binding.network_id):
                yield host, binding.port_id
        for host, network_id in facts.presence_changes():
            for binding in facts.bindings_on_network.get(network_id):
                yield host, binding.port_id
            for before, _ in facts.bindings.changed():
                if before is not None and before.network_id == network_id:
                    yield host, before.port_id
        yield from self._with_tunnels_moved(facts)

    def _with_tunnels_moved(self, facts: Facts) -> Iterator[Cell]:
        for before, after in facts.hosts.changed():
            host = after or before
            assert host is not None
            if after is not None and before is not None and after.tunnel_address == before.tunnel_address:
                continue
            for binding in facts.bindings_on_host.get(host.host):
                for other in facts.hosts_with(binding.network_id):
                    yield other, binding.port_id

    def spec(self, facts: Facts, host: str, object_id: str) -> fabric.PeerSpec | None:
        binding = facts.active_binding(object_id)
        if binding is None or binding.host == host or not facts.has(host, binding.network_id):
            return None
        tunnel_address = self._tunnel_address(facts, binding)
        if self._made is None or self._made[0] is not binding or self._made[1] != tunnel_address:
            self._made = binding, tunnel_address, _spec(binding, tunnel_address)
        return self._made[2]

    def all(self, facts: Facts) -> Iterator[Cell]:
        for binding in facts.bindings:
            for host in facts.hosts_with(binding.network_id):
                yield host, binding.port_id

    def _tunnel_address(self, facts: Facts, binding: Binding) -> str:
        found = network(facts, binding.network_id)
        is_tunnelled = found is not None and found.type == public.NETWORK_TYPE_VXLAN
        return facts.tunnel_address(binding.host) if is_tunnelled else ""


def _spec(binding: Binding, tunnel_address: str) -> fabric.PeerSpec:
    return fabric.PeerSpec(
        network_id=binding.network_id,
        port_id=binding.port_id,
        mac_address=binding.port.mac_address,
        ip_addresses=[address.ip_address for address in binding.port.addresses],
        hostname=binding.port.hostname,
        host=binding.host,
        tunnel_address=tunnel_address,
    )
