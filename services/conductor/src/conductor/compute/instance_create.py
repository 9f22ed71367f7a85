"""Saga `instance-create`: from an accepted request to a running guest, or back to nothing but an ERROR with a cause."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

from cirra.agent.v1 import desired_pb2 as agent
from cirra.compute.v1 import compute_pb2 as public
from cirra.conductor.v1.sagas_pb2 import HostClaimed, InstanceCreateParams
from cirra.network.v1 import network_pb2 as network_api
from cirra.operations.v1.operations_pb2 import OperationError
from cirra.placement.v1 import scheduling_pb2 as scheduling
from conductor.compute import teardown
from conductor.compute.abandonment import give_back
from conductor.compute.domain import domain_spec, domain_wish, port_wish
from conductor.compute.instance import Instance
from conductor.compute.opening import recalled, wished
from conductor.hosts.settle import Answered, told_and_done
from conductor.image.image import Image
from conductor.network.network import Network
from conductor.network.port import Port
from conductor.services import Services
from conductor.turn import Turn
from core.errors import CirraError
from core.saga import Abandoned, Saga, Step, StepContext, StepError, Together, taken_at_start
from core.saga.engine import CANCELLED

Context = StepContext[InstanceCreateParams]

BUILD_DEADLINE = timedelta(minutes=10)
MAX_HOSTS = 3


async def give_up(ctx: Context) -> None:
    """The instance stays, in ERROR with the cause, for a person to read and delete.

    Its addresses were taken with it: those are free again also when no step of theirs has begun.
    """
    for port_id in ctx.params.port_ids:
        await teardown.release_port(_services(ctx), port_id, ctx.params.instance_id)

    def decide(instance: Instance) -> None:
        task_id = str(ctx.saga_id)
        if instance.task_id != task_id:
            return
        assert ctx.error is not None
        if not (instance.delete_task_id and ctx.error.reason == CANCELLED):
            instance.fail(task_id, _fault(ctx.error))
        instance.end_task(task_id)

    await _services(ctx).repository.change(Instance, _instance_id(ctx), decide)


async def free_port(ctx: Context) -> None:
    await teardown.release_port(_services(ctx), ctx.item, ctx.params.instance_id)


async def claim_host(ctx: Context) -> Together:
    request = scheduling.ClaimRequest()
    request.CopyFrom(ctx.params.claim)
    request.attempt = ctx.attempt
    request.excluded_hosts.extend(claimed.host for claimed in ctx.earlier_results("claim_host", HostClaimed))
    try:
        response = await _services(ctx).placement.Claim(request)
    except CirraError as error:
        if error.retryable:
            raise
        raise StepError(_with_history(ctx, error.message), reason=error.reason, remedy=error.remedy) from error
    claimed = HostClaimed(
        host=response.host, virt_type=response.virt_type, availability_zone=response.availability_zone
    )
    instance = await recalled(ctx, Instance, _instance_id(ctx))
    instance.assign_host(_turn(ctx), claimed.host, claimed.virt_type, claimed.availability_zone)
    ctx.describe(f"on {claimed.host}")
    return Together((instance,), claimed)


async def release_claim(ctx: Context) -> None:
    claimed = ctx.find_result("claim_host", HostClaimed)
    host = claimed.host if claimed is not None else ""
    ctx.on_host(host)
    failed = bool(host) and ctx.error is not None and ctx.error.reason != CANCELLED
    await teardown.release_claim(
        _services(ctx), ctx.params.instance_id, _turn(ctx), host, up_to=ctx.attempt, build_failed=failed
    )


async def wish_port(ctx: Context) -> tuple[Port]:
    """The port as it shall be bound."""
    host = _host(ctx)
    instance = await recalled(ctx, Instance, _instance_id(ctx))
    port = await recalled(ctx, Port, UUID(ctx.item))
    network = await recalled(ctx, Network, UUID(port.network_id))
    wish = port_wish(host, port, network, instance.hostname, ctx.params.instance_id)
    port.bind(host, network_api.PORT_BINDING_STATE_ACTIVE, wish, _turn(ctx))
    return (port,)


async def bind_port(ctx: Context) -> Together:
    services, host = _services(ctx), _host(ctx)
    ctx.on_host(host)
    port = await wished(ctx, wish_port)
    answered = await told_and_done(
        services,
        port.bindings[host].desired,
        Port,
        lambda it: it.observation(host),
        lambda facts: facts.wired,
        Port.observe,
    )
    ctx.describe(f"{', '.join(fixed.ip_address for fixed in port.fixed_ips)} on {host}")
    return answered.together


async def unbind_port(ctx: Context) -> None:
    claimed = ctx.find_result("claim_host", HostClaimed)
    if claimed is not None:
        ctx.on_host(claimed.host)
        await teardown.unbind_port(_services(ctx), ctx.item, _turn(ctx), claimed.host)


async def wish_off(ctx: Context) -> tuple[Instance]:
    return await _wish_domain(ctx, agent.DESIRED_POWER_OFF, create=True)


async def build(ctx: Context) -> Together:
    """Disk and domain, not started: the one step that may create a disk."""
    answered = await _tell_domain(ctx, wish_off, agent.DOMAIN_STATE_SHUTOFF)
    said = answered.aggregate.observation
    ctx.describe("image from the host's cache" if said is not None and said.facts.image_cached else "image downloaded")
    return answered.together


async def remove_domain(ctx: Context) -> None:
    claimed = ctx.find_result("claim_host", HostClaimed)
    if claimed is not None:
        ctx.on_host(claimed.host)
        await teardown.remove_domain(_services(ctx), ctx.params.instance_id, _turn(ctx), claimed.host)


async def wish_on(ctx: Context) -> tuple[Instance]:
    return await _wish_domain(ctx, agent.DESIRED_POWER_ON, create=False)


async def start(ctx: Context) -> Together:
    return (await _tell_domain(ctx, wish_on, agent.DOMAIN_STATE_RUNNING)).together


async def abandon(ctx: Context) -> Abandoned:
    """The instance comes to rest in ERROR with the cause. Past the pivot its guest runs, and keeps what it has."""
    task_id = str(ctx.saga_id)
    instance = await _services(ctx).repository.load(Instance, _instance_id(ctx))
    if instance.task_id != task_id:
        return Abandoned()  # its last undo has done all, and only could not say so
    ports: tuple[Port, ...] = ()
    if ctx.error is None:
        left: tuple[str, ...] = (f"{instance.host}: the guest runs; delete the instance to be rid of it",)
    else:
        claimed = ctx.find_result("claim_host", HostClaimed)
        host = claimed.host if claimed is not None else ""
        given = await give_back(
            _services(ctx), ctx.params.instance_id, ctx.params.port_ids, _turn(ctx), host, up_to=ctx.attempt
        )
        instance, ports, left = given.instance, given.ports, given.left
    instance.fail(task_id, _fault_of_abandoned(ctx))
    instance.end_task(task_id)
    return Abandoned((instance, *ports), left)


async def activate(ctx: Context) -> Together:
    instance = await recalled(ctx, Instance, _instance_id(ctx))
    instance.activate(str(ctx.saga_id))
    return Together((instance,))


INSTANCE_CREATE = Saga(
    name="instance-create",
    params=InstanceCreateParams,
    steps=(
        Step(name="accept", do=taken_at_start, undo=give_up),
        Step(name="allocate_port", do=taken_at_start, undo=free_port, each="port_ids"),
        Step(name="claim_host", do=claim_host, undo=release_claim),
        Step(name="bind_port", opening=wish_port, do=bind_port, undo=unbind_port, each="port_ids"),
        Step(name="build", opening=wish_off, do=build, undo=remove_domain, deadline=BUILD_DEADLINE),
        Step(name="start", opening=wish_on, do=start, no_undo="build's undo removes the domain", pivot=True),
        Step(name="activate", do=activate, only_decides=True, no_undo="after the pivot"),
    ),
    restart_from="claim_host",
    max_attempts=MAX_HOSTS,
    abandon=abandon,
)


async def _wish_domain(ctx: Context, power: agent.DesiredPower.ValueType, *, create: bool) -> tuple[Instance]:
    """The domain as its host shall have it."""
    instance = await recalled(ctx, Instance, _instance_id(ctx))
    image = await recalled(ctx, Image, UUID(instance.image_id))
    ports = [await recalled(ctx, Port, UUID(port_id)) for port_id in ctx.params.port_ids]
    networks = [await recalled(ctx, Network, UUID(port.network_id)) for port in ports]
    spec = domain_spec(instance, image, list(zip(ports, networks, strict=True)), power)
    instance.desire_domain(_turn(ctx), domain_wish(_host(ctx), spec, create=create))
    return (instance,)


async def _tell_domain(
    ctx: Context, wish: Callable[[Context], Awaitable[tuple[Instance]]], wanted: agent.DomainState.ValueType
) -> Answered[Instance]:
    """Makes the domain so on its host, and waits until the host has said that it is."""
    ctx.on_host(_host(ctx))
    instance = await wished(ctx, wish)
    assert instance.domain is not None
    return await told_and_done(
        _services(ctx),
        instance.domain,
        Instance,
        lambda it: it.observation,
        lambda facts: facts.state == wanted,
        Instance.observe_domain,
    )


def _services(ctx: Context) -> Services:
    services: Services = ctx.services
    return services


def _instance_id(ctx: Context) -> UUID:
    return UUID(ctx.params.instance_id)


def _turn(ctx: Context) -> Turn:
    return Turn(str(ctx.saga_id), ctx.attempt)


def _host(ctx: Context) -> str:
    return ctx.result("claim_host", HostClaimed).host


def _fault(error: OperationError) -> public.Fault:
    remedy = error.remedy or ("delete it" if error.reason == CANCELLED else "")
    return public.Fault(reason=error.reason, message=error.message, remedy=remedy)


def _fault_of_abandoned(ctx: Context) -> public.Fault:
    """The cause, and where the way back or the way on has ended."""
    stood = ctx.failures[-1]
    fault = _fault(ctx.error or stood)
    doing = "undoing" if ctx.error is not None else "doing"
    fault.message += f"; {doing} {ctx.step} failed ({stood.reason}: {stood.message}), and an administrator gave it up"
    fault.remedy = "delete it"
    return fault


def _with_history(ctx: Context, message: str) -> str:
    """No host is left after failures elsewhere: those are the news."""
    causes = "; ".join(f"{failure.reason}: {failure.message}" for failure in ctx.failures)
    return f"{message} (after {causes})" if causes else message
