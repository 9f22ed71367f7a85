"""Leaving an instance behind whose saga a person gives up: what it holds is given back without waiting for any host.

What its host still has stays unwanted there by desired state: the host removes it when it can, and until it has said
so its capacity is held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from conductor.compute import teardown
from conductor.compute.domain import domain_absent
from conductor.compute.instance import Instance
from conductor.network.port import Port
from conductor.services import Services
from conductor.turn import Turn


@dataclass(frozen=True, slots=True)
class GivenBack:
    """The instance as it is then; its ports, with what is still to be saved; what may be left on hosts, in words."""

    instance: Instance
    ports: tuple[Port, ...]
    left: tuple[str, ...]


async def give_back(
    services: Services, instance_id: str, port_ids: Sequence[str], turn: Turn, host: str, *, up_to: int
) -> GivenBack:
    """Claim and domain at once, ports with the append that ends the saga. All of it may be repeated.

    `host`: where the claim is, if anywhere; `up_to`: see `teardown.release_claim`.
    """

    def wish_absent(instance: Instance) -> None:
        if instance.domain is not None and instance.domain.host == host and not instance.domain.absent:
            instance.remove_domain(turn, domain_absent(host, instance_id))

    await services.repository.change(Instance, UUID(instance_id), wish_absent)
    await teardown.release_claim(services, instance_id, turn, host, up_to=up_to)
    instance = await services.repository.load(Instance, UUID(instance_id))
    left = [
        f"{name}: guest {instance_id} may still be there, running or not, with its disk; it is removed, and its "
        f"capacity freed, once the host's compute-agent can: see its log"
        for name in instance.leaving
    ]
    ports = []
    for port_id in port_ids:
        port = await services.repository.load(Port, UUID(port_id))
        if port.device_id == instance_id and not port.deleted:
            left += release(port, turn)
            ports.append(port)
    return GivenBack(instance, tuple(ports), tuple(left))


def release(port: Port, turn: Turn) -> list[str]:
    """Off all hosts, by desired state; free, or gone with its instance. Answers what may be left of it."""
    left = []
    for host, binding in list(port.bindings.items()):
        port.unbind(host, turn)
        if not binding.gone:
            left.append(f"{host}: port {port.id} may still be wired; the host's net-agent unplugs it once it can")
        port.binding_removed(host)
    port.release_device()
    return left
