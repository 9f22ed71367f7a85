"""Saga `instance-create`: from an accepted request to a running guest, or back to nothing but an ERROR with a cause."""

from __future__ import annotations

from datetime import timedelta

from cirra.agent.v1 import desired_pb2 as agent
from cirra.compute.v1 import compute_pb2 as public
from cirra.conductor.v1.sagas_pb2 import HostClaimed, InstanceCreateParams
from cirra.operations.v1.operations_pb2 import OperationError
from cirra.placement.v1 import scheduling_pb2 as scheduling
from conductor.compute import teardown
from conductor.compute.abandonment import give_back
from conductor.compute.domain import domain_wish
from conductor.compute.instance import Instance
from conductor.compute.opening import recalled
from conductor.compute.steps import (
    domain_told,
    instance_id_of,
    port_bound_to,
    port_told,
    services_of,
    specified,
    turn_of,
)
from conductor.hosts.observation import Observation
from conductor.network.port import Port
from core.errors import CirraError
from core.saga import Abandoned, Saga, Step, StepContext, StepError, Together, taken_at_start
from core.saga.engine import CANCELLED

Context = StepContext[InstanceCreateParams]

SPAWN_DEADLINE = timedelta(minutes=10)
MAX_HOSTS = 3


async def give_up(ctx: Context) -> None:
    """The instance stays, in ERROR with the cause, for a person to read and delete.

    Its addresses were taken with it: those are free again also when no step of theirs has begun.
    """
    for port_id in ctx.params.port_ids:
        await teardown.release_port(services_of(ctx), port_id, ctx.params.instance_id)

    def decide(instance: Instance) -> None:
        task_id = str(ctx.saga_id)
        if instance.task_id != task_id:
            return
        assert ctx.error is not None
        if not (instance.delete_task_id and ctx.error.reason == CANCELLED):
            instance.fail(task_id, _fault(ctx.error))
        instance.end_task(task_id)

    await services_of(ctx).repository.change(Instance, instance_id_of(ctx), decide)


async def free_port(ctx: Context) -> None:
    await teardown.release_port(services_of(ctx), ctx.item, ctx.params.instance_id)


async def claim_host(ctx: Context) -> Together:
    request = scheduling.ClaimRequest()
    request.CopyFrom(ctx.params.claim)
    request.attempt = ctx.attempt
    request.excluded_hosts.extend(claimed.host for claimed in ctx.earlier_results("claim_host", HostClaimed))
    try:
        response = await services_of(ctx).placement.Claim(request)
    except CirraError as error:
        if error.retryable:
            raise
        raise StepError(_with_history(ctx, error.message), reason=error.reason, remedy=error.remedy) from error
    claimed = HostClaimed(
        host=response.host, virt_type=response.virt_type, availability_zone=response.availability_zone
    )
    instance = await recalled(ctx, Instance, instance_id_of(ctx))
    instance.assign_host(turn_of(ctx), claimed.host, claimed.virt_type, claimed.availability_zone)
    ctx.describe(f"on {claimed.host}")
    return Together((instance,), claimed)


async def release_claim(ctx: Context) -> None:
    claimed = ctx.find_result("claim_host", HostClaimed)
    host = claimed.host if claimed is not None else ""
    ctx.on_host(host)
    failed = bool(host) and ctx.error is not None and ctx.error.reason != CANCELLED
    await teardown.release_claim(
        services_of(ctx), ctx.params.instance_id, turn_of(ctx), host, up_to=ctx.attempt, build_failed=failed
    )


async def wish_port(ctx: Context) -> tuple[Port]:
    """The port as it shall be bound."""
    return await port_bound_to(ctx, ctx.item, _host(ctx))


async def bind_port(ctx: Context) -> Together:
    return await port_told(ctx, wish_port, _host(ctx))


async def unbind_port(ctx: Context) -> None:
    claimed = ctx.find_result("claim_host", HostClaimed)
    if claimed is not None:
        ctx.on_host(claimed.host)
        await teardown.unbind_port(services_of(ctx), ctx.item, turn_of(ctx), claimed.host)


async def wish_guest(ctx: Context) -> tuple[Instance]:
    """The guest on its host, running; its disk is yet to be made."""
    instance, spec = await specified(ctx, agent.DESIRED_POWER_ON)
    instance.desire_domain(turn_of(ctx), domain_wish(_host(ctx), spec, create=True))
    return (instance,)


async def spawn(ctx: Context) -> Together:
    """Disk, domain, and its start: the one step that may create a disk. All ports are wired by then."""
    ctx.on_host(_host(ctx))
    answered = await domain_told(ctx, wish_guest, lambda facts: facts.state == agent.DOMAIN_STATE_RUNNING)
    assert answered.aggregate.observation is not None  # that is what was waited for
    ctx.describe(_how_made(answered.aggregate.observation))
    return answered.together


async def remove_domain(ctx: Context) -> None:
    claimed = ctx.find_result("claim_host", HostClaimed)
    if claimed is not None:
        ctx.on_host(claimed.host)
        await teardown.remove_domain(services_of(ctx), ctx.params.instance_id, turn_of(ctx), claimed.host)


async def abandon(ctx: Context) -> Abandoned:
    """The instance comes to rest in ERROR with the cause. Past the pivot its guest runs, and keeps what it has."""
    task_id = str(ctx.saga_id)
    instance = await services_of(ctx).repository.load(Instance, instance_id_of(ctx))
    if instance.task_id != task_id:
        return Abandoned()  # its last undo has done all, and only could not say so
    ports: tuple[Port, ...] = ()
    if ctx.error is None:
        left: tuple[str, ...] = (f"{instance.host}: the guest runs; delete the instance to be rid of it",)
    else:
        claimed = ctx.find_result("claim_host", HostClaimed)
        host = claimed.host if claimed is not None else ""
        given = await give_back(
            services_of(ctx), ctx.params.instance_id, ctx.params.port_ids, turn_of(ctx), host, up_to=ctx.attempt
        )
        instance, ports, left = given.instance, given.ports, given.left
    instance.fail(task_id, _fault_of_abandoned(ctx))
    instance.end_task(task_id)
    return Abandoned((instance, *ports), left)


async def activate(ctx: Context) -> Together:
    instance = await recalled(ctx, Instance, instance_id_of(ctx))
    instance.activate(str(ctx.saga_id))
    return Together((instance,))


INSTANCE_CREATE = Saga(
    name="instance-create",
    params=InstanceCreateParams,
    steps=(
        Step(name="accept", do=taken_at_start, undo=give_up),
        Step(name="allocate_port", do=taken_at_start, undo=free_port, each="port_ids"),
        Step(name="claim_host", do=claim_host, undo=release_claim),
        Step(name="bind_port", opening=wish_port, do=bind_port, undo=unbind_port, each="port_ids", beside="bind_port"),
        Step(
            name="spawn",
            opening=wish_guest,
            do=spawn,
            undo=remove_domain,
            deadline=SPAWN_DEADLINE,
            pivot=True,
            formerly=("build", "start"),
        ),
        Step(name="activate", do=activate, only_decides=True, no_undo="after the pivot"),
    ),
    restart_from="claim_host",
    max_attempts=MAX_HOSTS,
    abandon=abandon,
)


def _host(ctx: Context) -> str:
    return ctx.result("claim_host", HostClaimed).host


def _how_made(said: Observation[agent.DomainObserved]) -> str:
    """Where the image came from, and how long its host took for what it had to do."""
    image = "image from the host's cache" if said.facts.image_cached else "image downloaded"
    parts = ("disk made", said.effort.establishing_us), ("started", said.effort.ensuring_us)
    took = ", ".join(f"{part} in {_duration(us)}" for part, us in parts if us)
    return f"{image}; {took}" if took else image


def _duration(us: int) -> str:
    return f"{us / 1e6:.1f} s" if us >= 1e6 else f"{us / 1e3:.0f} ms"


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
