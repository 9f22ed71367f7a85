"""The NICs of an instance that is there: what its host shall make of them, and giving up. Decides; saves nothing."""

from __future__ import annotations

from collections.abc import Sequence

from cirra.agent.v1 import desired_pb2 as agent
from cirra.compute.v1 import compute_pb2 as public
from cirra.compute.v1 import events_pb2 as pb
from cirra.conductor.v1.sagas_pb2 import InterfaceParams
from conductor.compute.instance import Instance
from conductor.compute.wishes import copy_of
from conductor.network.port import Port
from conductor.turn import Turn
from core.errors import FailedPrecondition, NotFound

MAX_NICS = 16


def begin_attaching(instance: Instance, port: Port, task_id: str) -> InterfaceParams:
    """The instance is in the hands of a task that gives it the port. Raises FailedPrecondition."""
    if len(instance.nics) >= MAX_NICS:
        raise FailedPrecondition(
            f"instance {instance.id} has {len(instance.nics)} NICs: it can't have more",
            reason="TOO_MANY_NICS",
            remedy="detach another one first",
        )
    params = _params(instance, str(port.id))
    instance.start_task("attaching-interface", task_id)
    instance.record(pb.InstanceNicAttached(nic=public_nic(port)))
    return params


def begin_detaching(instance: Instance, port_id: str, task_id: str) -> InterfaceParams:
    """The instance is in the hands of a task that takes the port from it. Raises NotFound for what it hasn't."""
    if not _has(instance, port_id):
        raise NotFound(f"instance {instance.id} has no port {port_id}", remedy="cirra server show tells its ports")
    params = _params(instance, port_id)
    instance.start_task("detaching-interface", task_id)
    return params


def public_nic(port: Port) -> public.InstanceNic:
    return public.InstanceNic(
        network=port.network_id,
        port=str(port.id),
        fixed_ip=port.fixed_ips[0].ip_address if port.fixed_ips else "",
        mac_address=port.mac_address,
    )


def desire_nics(instance: Instance, turn: Turn, nics: Sequence[agent.NicSpec]) -> None:
    """Its host shall give it these NICs; all else stays. Raises FailedPrecondition for a task that is not its own."""
    assert instance.domain is not None  # the table of actions wants it built
    wanted = copy_of(instance.domain)
    del wanted.domain.nics[:]
    wanted.domain.nics.extend(nics)
    instance.desire_domain(turn, wanted)


def give_up(instance: Instance, turn: Turn, params: InterfaceParams, *, attached: bool) -> None:
    """Its NICs shall be what they were, and the task ends. Its host learns of that by desired state.

    `attached`: the task was to attach: the NIC is no more. Repeating it changes nothing.
    """
    if instance.task_id != turn.task_id:
        return
    if instance.domain is not None and list(instance.domain.domain.nics) != list(params.earlier_nics):
        desire_nics(instance, turn, params.earlier_nics)
    if attached:
        forget(instance, params.port_id)
    instance.end_task(turn.task_id)


def forget(instance: Instance, port_id: str) -> None:
    """It has no such NIC any more."""
    if _has(instance, port_id):
        instance.record(pb.InstanceNicDetached(port=port_id))


def _has(instance: Instance, port_id: str) -> bool:
    return any(nic.port == port_id for nic in instance.nics)


def _params(instance: Instance, port_id: str) -> InterfaceParams:
    assert instance.domain is not None  # the table of actions wants it built
    return InterfaceParams(instance_id=str(instance.id), port_id=port_id, earlier_nics=instance.domain.domain.nics)
