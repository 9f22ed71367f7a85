"""Saga `instance-attach-interface`: an instance gets one more NIC, also while its guest runs."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from cirra.conductor.v1.sagas_pb2 import InterfaceParams
from conductor.compute import nics, teardown
from conductor.compute.abandonment import release
from conductor.compute.domain import nic_spec
from conductor.compute.instance import Instance
from conductor.compute.opening import recalled
from conductor.compute.steps import instance_id_of, nics_told, port_bound_to, port_told, services_of, turn_of
from conductor.network.network import Network
from conductor.network.port import Port
from core.saga import Abandoned, Saga, Step, StepContext, Together, taken_at_start

Context = StepContext[InterfaceParams]


async def give_back(ctx: Context) -> None:
    """The port is free, or gone if it was made for this; the guest shall be without it."""
    await teardown.release_port(services_of(ctx), ctx.params.port_id, ctx.params.instance_id)
    await services_of(ctx).repository.change(
        Instance, instance_id_of(ctx), lambda it: nics.give_up(it, turn_of(ctx), ctx.params, attached=True)
    )


async def wish_port(ctx: Context) -> tuple[Port]:
    """The port as it shall be bound where the guest is."""
    return await port_bound_to(ctx, ctx.params.port_id, await _host(ctx))


async def bind_port(ctx: Context) -> Together:
    return await port_told(ctx, wish_port, await _host(ctx))


async def unbind_port(ctx: Context) -> None:
    instance = await services_of(ctx).repository.load(Instance, instance_id_of(ctx))
    ctx.on_host(instance.host)
    await teardown.unbind_port(services_of(ctx), ctx.params.port_id, turn_of(ctx), instance.host)


async def wish_nic(ctx: Context) -> tuple[Instance]:
    """The guest with the NIC beside those that it has."""
    instance = await recalled(ctx, Instance, instance_id_of(ctx))
    port = await recalled(ctx, Port, UUID(ctx.params.port_id))
    network = await recalled(ctx, Network, UUID(port.network_id))
    nics.desire_nics(instance, turn_of(ctx), [*ctx.params.earlier_nics, nic_spec(port, network)])
    return (instance,)


async def plug(ctx: Context) -> Together:
    return await nics_told(ctx, wish_nic)


async def settle(ctx: Context) -> Together:
    instance = await services_of(ctx).repository.load(Instance, instance_id_of(ctx))
    instance.power_done(str(ctx.saga_id))
    return Together((instance,))


async def abandon(ctx: Context) -> Abandoned:
    """Before its effect, the port is given back without waiting for the host; after it, the guest keeps the NIC."""
    instance = await services_of(ctx).repository.load(Instance, instance_id_of(ctx))
    if ctx.error is None:
        instance.power_done(str(ctx.saga_id))
        return Abandoned((instance,))
    nics.give_up(instance, turn_of(ctx), ctx.params, attached=True)
    port = await services_of(ctx).repository.load(Port, UUID(ctx.params.port_id))
    if port.deleted or port.device_id != ctx.params.instance_id:
        return Abandoned((instance,))
    return Abandoned((instance, port), tuple(release(port, turn_of(ctx))))


INSTANCE_ATTACH_INTERFACE = Saga(
    name="instance-attach-interface",
    params=InterfaceParams,
    steps=(
        Step(name="accept", do=taken_at_start, undo=give_back),
        Step(name="bind_port", opening=wish_port, do=bind_port, undo=unbind_port),
        Step(
            name="plug",
            opening=wish_nic,
            do=plug,
            no_undo="accept's undo does",
            pivot=True,
            deadline=timedelta(minutes=2),
        ),
        Step(name="settle", do=settle, only_decides=True, no_undo="after the pivot"),
    ),
    abandon=abandon,
)


async def _host(ctx: Context) -> str:
    return (await recalled(ctx, Instance, instance_id_of(ctx))).host
