"""Saga `instance-detach-interface`: an instance loses a NIC, also while its guest runs, which has to release it."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from cirra.conductor.v1.sagas_pb2 import InterfaceParams
from conductor.compute import nics, teardown
from conductor.compute.abandonment import release
from conductor.compute.instance import Instance
from conductor.compute.opening import recalled
from conductor.compute.steps import instance_id_of, nics_told, services_of, turn_of
from conductor.network.port import Port
from core.saga import Abandoned, Saga, Step, StepContext, Together, taken_at_start

Context = StepContext[InterfaceParams]

_FORWARD = "after the pivot"


async def give_back(ctx: Context) -> None:
    """The guest shall keep the NIC."""
    await services_of(ctx).repository.change(
        Instance, instance_id_of(ctx), lambda it: nics.give_up(it, turn_of(ctx), ctx.params, attached=False)
    )


async def wish_no_nic(ctx: Context) -> tuple[Instance]:
    instance = await recalled(ctx, Instance, instance_id_of(ctx))
    kept = [nic for nic in ctx.params.earlier_nics if nic.port_id != ctx.params.port_id]
    nics.desire_nics(instance, turn_of(ctx), kept)
    return (instance,)


async def unplug(ctx: Context) -> Together:
    return await nics_told(ctx, wish_no_nic)


async def unbind_port(ctx: Context) -> None:
    instance = await services_of(ctx).repository.load(Instance, instance_id_of(ctx))
    ctx.on_host(instance.host)
    if instance.task_id == str(ctx.saga_id):
        await teardown.unbind_port(services_of(ctx), ctx.params.port_id, turn_of(ctx), instance.host)


async def release_port(ctx: Context) -> None:
    await teardown.release_port(services_of(ctx), ctx.params.port_id, ctx.params.instance_id)


async def settle(ctx: Context) -> Together:
    instance = await services_of(ctx).repository.load(Instance, instance_id_of(ctx))
    nics.forget(instance, ctx.params.port_id)
    instance.power_done(str(ctx.saga_id))
    return Together((instance,))


async def abandon(ctx: Context) -> Abandoned:
    """Before the guest has released it, it keeps the NIC; after that the port is given back without waiting."""
    instance = await services_of(ctx).repository.load(Instance, instance_id_of(ctx))
    if ctx.error is not None:
        nics.give_up(instance, turn_of(ctx), ctx.params, attached=False)
        return Abandoned((instance,))
    if instance.task_id != str(ctx.saga_id):
        return Abandoned()
    nics.forget(instance, ctx.params.port_id)
    instance.power_done(str(ctx.saga_id))
    port = await services_of(ctx).repository.load(Port, UUID(ctx.params.port_id))
    if port.deleted or port.device_id != ctx.params.instance_id:
        return Abandoned((instance,))
    return Abandoned((instance, port), tuple(release(port, turn_of(ctx))))


INSTANCE_DETACH_INTERFACE = Saga(
    name="instance-detach-interface",
    params=InterfaceParams,
    steps=(
        Step(name="accept", do=taken_at_start, undo=give_back),
        Step(
            name="unplug",
            opening=wish_no_nic,
            do=unplug,
            no_undo="accept's undo does",
            pivot=True,
            deadline=timedelta(minutes=2),
        ),
        Step(name="unbind_port", do=unbind_port, no_undo=_FORWARD),
        Step(name="release_port", do=release_port, no_undo=_FORWARD),
        Step(name="settle", do=settle, only_decides=True, no_undo=_FORWARD),
    ),
    abandon=abandon,
)
