"""What the steps of an instance's sagas share: on what and as whom they act, and how a host is told of a wish.

Their parameters have an `instance_id`; where a guest is specified anew, also `port_ids`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from cirra.agent.v1 import desired_pb2 as agent
from cirra.network.v1 import network_pb2 as network_api
from conductor.compute.domain import domain_spec, port_wish
from conductor.compute.instance import Instance
from conductor.compute.opening import Wish, recalled, seen, wished
from conductor.hosts.settle import Answered, told_and_done
from conductor.image.image import Image
from conductor.network.network import Network
from conductor.network.port import Port
from conductor.services import Services
from conductor.turn import Turn
from core.saga import StepContext, Together


def services_of(ctx: StepContext[Any]) -> Services:
    services: Services = ctx.services
    return services


def instance_id_of(ctx: StepContext[Any]) -> UUID:
    return UUID(ctx.params.instance_id)


def turn_of(ctx: StepContext[Any]) -> Turn:
    return Turn(str(ctx.saga_id), ctx.attempt)


async def specified(ctx: StepContext[Any], power: agent.DesiredPower.ValueType) -> tuple[Instance, agent.DomainSpec]:
    """The instance, and its guest specified by what it is made of now: image, ports, their networks."""
    instance = await recalled(ctx, Instance, instance_id_of(ctx))
    image = await seen(ctx, Image, UUID(instance.image_id))
    ports = [await seen(ctx, Port, UUID(port_id)) for port_id in ctx.params.port_ids]
    networks = [await seen(ctx, Network, UUID(port.network_id)) for port in ports]
    return instance, domain_spec(instance, image, list(zip(ports, networks, strict=True)), power)


async def domain_told(
    ctx: StepContext[Any], wish: Wish[Instance], done: Callable[[agent.DomainObserved], bool]
) -> Answered[Instance]:
    """The host is told of the wished domain, and has said that it is so. Raises StepError."""
    instance = await wished(ctx, wish)
    ctx.on_host(instance.host)
    assert instance.domain is not None
    return await told_and_done(
        services_of(ctx), instance.domain, Instance, lambda it: it.observation, done, Instance.observe_domain
    )


async def port_bound_to(ctx: StepContext[Any], port_id: str, host: str) -> tuple[Port]:
    """The port as it shall be bound on the host."""
    instance = await seen(ctx, Instance, instance_id_of(ctx))
    port = await recalled(ctx, Port, UUID(port_id))
    network = await seen(ctx, Network, UUID(port.network_id))
    wish = port_wish(host, port, network, instance.hostname, ctx.params.instance_id)
    port.bind(host, network_api.PORT_BINDING_STATE_ACTIVE, wish, turn_of(ctx))
    return (port,)


async def port_told(ctx: StepContext[Any], wish: Wish[Port], host: str) -> Together:
    """The host is told of the wished port, and has said that it is wired. Raises StepError."""
    ctx.on_host(host)
    port = await wished(ctx, wish)
    answered = await told_and_done(
        services_of(ctx),
        port.bindings[host].desired,
        Port,
        lambda it: it.observation(host),
        lambda facts: facts.wired,
        Port.observe,
    )
    ctx.describe(f"{', '.join(fixed.ip_address for fixed in port.fixed_ips)} on {host}")
    return answered.together


async def nics_told(ctx: StepContext[Any], wish: Wish[Instance]) -> Together:
    """The host is told of the NICs that the guest shall have, and has said that it has it so. Raises StepError."""
    answered = await domain_told(ctx, wish, lambda facts: facts.state != agent.DOMAIN_STATE_ABSENT)
    ctx.describe(f"on {answered.aggregate.host}")
    return answered.together
