"""Saga `instance-attach-interface`: an instance gets one more NIC, also while its guest runs."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from cirra.agent.v1 import desired_pb2 as agent
from cirra.conductor.v1.sagas_pb2 import InterfaceParams
from cirra.network.v1 import network_pb2 as network_api
from conductor.compute import nics, teardown
from conductor.compute.abandonment import release
from conductor.compute.domain import nic_spec, port_wish
from conductor.compute.instance import Instance
from conductor.compute.opening import recalled, wished
from conductor.hosts.settle import told_and_done
from conductor.network.network import Network
from conductor.network.port import Port
from conductor.services import Services
from conductor.turn import Turn
from core.saga import Abandoned, Saga, Step, StepContext, Together, taken_at_start

Context = StepContext[InterfaceParams]


async def give_back(ctx: Context) -> None:
    """The port is free, or gone if it was made for this; the guest shall be without it."""
    await teardown.release_port(_services(ctx), ctx.params.port_id, ctx.params.instance_id)
    await _services(ctx).repository.change(
        Instance, _instance_id(ctx), lambda it: nics.give_up(it, _turn(ctx), ctx.params, attached=True)
    )


async def wish_port(ctx: Context) -> tuple[Port]:
    """The port as it shall be bound where the guest is."""
    instance = await recalled(ctx, Instance, _instance_id(ctx))
    port = await recalled(ctx, Port, UUID(ctx.params.port_id))
    network = await recalled(ctx, Network, UUID(port.network_id))
    wish = port_wish(instance.host, port, network, instance.hostname, ctx.params.instance_id)
    port.bind(instance.host, network_api.PORT_BINDING_STATE_ACTIVE, wish, _turn(ctx))
    return (port,)


async def bind_port(ctx: Context) -> Together:
    host = (await recalled(ctx, Instance, _instance_id(ctx))).host
    ctx.on_host(host)
    port = await wished(ctx, wish_port)
    answered = await told_and_done(
        _services(ctx),
        port.bindings[host].desired,
        Port,
        lambda it: it.observation(host),
        lambda facts: facts.wired,
        Port.observe,
    )
    ctx.describe(f"{', '.join(fixed.ip_address for fixed in port.fixed_ips)} on {host}")
    return answered.together


async def unbind_port(ctx: Context) -> None:
    instance = await _services(ctx).repository.load(Instance, _instance_id(ctx))
    ctx.on_host(instance.host)
    await teardown.unbind_port(_services(ctx), ctx.params.port_id, _turn(ctx), instance.host)


async def wish_nic(ctx: Context) -> tuple[Instance]:
    """The guest with the NIC beside those that it has."""
    instance = await recalled(ctx, Instance, _instance_id(ctx))
    port = await recalled(ctx, Port, UUID(ctx.params.port_id))
    network = await recalled(ctx, Network, UUID(port.network_id))
    nics.desire_nics(instance, _turn(ctx), [*ctx.params.earlier_nics, nic_spec(port, network)])
    return (instance,)


async def plug(ctx: Context) -> Together:
    instance = await wished(ctx, wish_nic)
    ctx.on_host(instance.host)
    assert instance.domain is not None
    answered = await told_and_done(
        _services(ctx),
        instance.domain,
        Instance,
        lambda it: it.observation,
        lambda facts: facts.state != _ABSENT,
        Instance.observe_domain,
    )
    ctx.describe(f"on {instance.host}")
    return answered.together


async def settle(ctx: Context) -> Together:
    instance = await _services(ctx).repository.load(Instance, _instance_id(ctx))
    instance.power_done(str(ctx.saga_id))
    return Together((instance,))


async def abandon(ctx: Context) -> Abandoned:
    """Before its effect, the port is given back without waiting for the host; after it, the guest keeps the NIC."""
    instance = await _services(ctx).repository.load(Instance, _instance_id(ctx))
    if ctx.error is None:
        instance.power_done(str(ctx.saga_id))
        return Abandoned((instance,))
    nics.give_up(instance, _turn(ctx), ctx.params, attached=True)
    port = await _services(ctx).repository.load(Port, UUID(ctx.params.port_id))
    if port.deleted or port.device_id != ctx.params.instance_id:
        return Abandoned((instance,))
    return Abandoned((instance, port), tuple(release(port, _turn(ctx))))


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

_ABSENT = agent.DOMAIN_STATE_ABSENT


def _services(ctx: Context) -> Services:
    services: Services = ctx.services
    return services


def _instance_id(ctx: Context) -> UUID:
    return UUID(ctx.params.instance_id)


def _turn(ctx: Context) -> Turn:
    return Turn(str(ctx.saga_id), ctx.attempt)
