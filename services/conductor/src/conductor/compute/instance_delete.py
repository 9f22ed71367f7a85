"""Saga `instance-delete`: all forward. A host that is out of reach is cleaned when it returns."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from cirra.conductor.v1.sagas_pb2 import InstanceDeleteParams
from conductor.compute import teardown
from conductor.compute.abandonment import give_back
from conductor.compute.instance import Instance
from conductor.compute.steps import instance_id_of, services_of, turn_of
from conductor.network.port import Port
from core.errors import FailedPrecondition
from core.saga import Abandoned, Saga, SagaRun, Step, StepContext, StepError
from core.saga.state import SagaStatus

Context = StepContext[InstanceDeleteParams]

_FORWARD = "a delete only goes forward"


async def stop_running_task(ctx: Context) -> None:
    """A create that is under way is cancelled; past its pivot, it is waited for."""
    if not ctx.params.running_task_id:
        return
    repository, saga_id = services_of(ctx).repository, UUID(ctx.params.running_task_id)
    await repository.change(SagaRun, saga_id, lambda run: run.request_cancel("the instance is deleted"))

    async def ended() -> bool | None:
        run = await repository.load(SagaRun, saga_id)
        if run.status is SagaStatus.STUCK:
            raise StepError(
                f"saga {saga_id} ({run.saga}) is stuck", reason="SAGA_STUCK", remedy="retry or resolve that saga first"
            )
        return run.status.ended or None

    await services_of(ctx).changes.until(saga_id, ended)


async def take_over(ctx: Context) -> None:
    await services_of(ctx).repository.change(
        Instance, instance_id_of(ctx), lambda it: it.start_task("instance-delete", str(ctx.saga_id))
    )


async def remove_domain(ctx: Context) -> None:
    instance = await services_of(ctx).repository.load(Instance, instance_id_of(ctx))
    if instance.host:
        ctx.on_host(instance.host)
        gone = await teardown.remove_domain(services_of(ctx), ctx.params.instance_id, turn_of(ctx), instance.host)
        ctx.describe(f"on {instance.host}" if gone else f"{instance.host} is down: pending there")


async def unbind_port(ctx: Context) -> None:
    instance = await services_of(ctx).repository.load(Instance, instance_id_of(ctx))
    port = await services_of(ctx).repository.load(Port, UUID(ctx.item))
    # A task that the delete has cancelled may have given a port back, which is another's by now.
    if instance.host and port.device_id in ("", ctx.params.instance_id):
        ctx.on_host(instance.host)
        await teardown.unbind_port(services_of(ctx), ctx.item, turn_of(ctx), instance.host)


async def release_port(ctx: Context) -> None:
    await teardown.release_port(services_of(ctx), ctx.item, ctx.params.instance_id)


async def release_claim(ctx: Context) -> None:
    services, instance_id = services_of(ctx), ctx.params.instance_id
    instance = await services.repository.load(Instance, instance_id_of(ctx))
    host = _last_host(instance)
    ctx.on_host(host)
    await teardown.release_claim(services, instance_id, turn_of(ctx), host, up_to=teardown.ANY_ATTEMPT)


async def settle(ctx: Context) -> None:
    repository = services_of(ctx).repository
    await repository.change(Instance, instance_id_of(ctx), lambda it: it.delete(str(ctx.saga_id)))
    await repository.destroy_secrets(instance_id_of(ctx))


async def abandon(ctx: Context) -> Abandoned:
    """The instance is deleted. What its host still has is unwanted there, and removed when the host can.

    Raises FailedPrecondition while another task has it: what that holds can't be given back under its feet.
    """
    services, task_id = services_of(ctx), str(ctx.saga_id)
    instance = await services.repository.load(Instance, instance_id_of(ctx))
    if instance.deleted:
        return Abandoned()
    if instance.task_id not in ("", task_id):
        raise FailedPrecondition(
            f"instance {instance.id} is in the hands of operation {instance.task_id}",
            reason="OTHER_OPERATION_FIRST",
            remedy=f"retry or resolve operation {instance.task_id} first, then retry this one",
        )
    await take_over(ctx)
    given = await give_back(
        services,
        ctx.params.instance_id,
        ctx.params.port_ids,
        turn_of(ctx),
        _last_host(instance),
        up_to=teardown.ANY_ATTEMPT,
    )
    await services.repository.destroy_secrets(instance.id)
    given.instance.delete(task_id)
    return Abandoned((given.instance, *given.ports), given.left)


INSTANCE_DELETE = Saga(
    name="instance-delete",
    params=InstanceDeleteParams,
    steps=(
        Step(name="stop_running_task", do=stop_running_task, no_undo=_FORWARD, deadline=timedelta(minutes=15)),
        Step(name="take_over", do=take_over, no_undo=_FORWARD),
        Step(name="remove_domain", do=remove_domain, no_undo=_FORWARD),
        Step(name="unbind_port", do=unbind_port, no_undo=_FORWARD, each="port_ids"),
        Step(name="release_port", do=release_port, no_undo=_FORWARD, each="port_ids"),
        Step(name="release_claim", do=release_claim, no_undo=_FORWARD),
        Step(name="settle", do=settle, no_undo=_FORWARD),
    ),
    forward_only=True,
    abandon=abandon,
)


def _last_host(instance: Instance) -> str:
    """Where it is or was: once it has left its host, its domain still tells."""
    return instance.host or (instance.domain.host if instance.domain is not None else "")
