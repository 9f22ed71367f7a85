"""What the sagas of power share: `instance-start`, `instance-stop`, `instance-reboot`.

Each makes one wish, waits until the host has done it, and ends. Until then it gives up by wishing what was wished
before; its host learns of that by desired state, so that giving up waits for nobody.
"""

from __future__ import annotations

from datetime import timedelta

from cirra.agent.v1 import desired_pb2 as agent
from cirra.conductor.v1.sagas_pb2 import InstancePowerParams
from conductor.compute.domain import domain_wish
from conductor.compute.instance import Instance
from conductor.compute.opening import recalled
from conductor.compute.steps import domain_told, instance_id_of, services_of, specified, turn_of
from conductor.compute.wishes import set_power
from core.saga import Abandoned, Saga, Step, StepContext, Together, taken_at_start

Context = StepContext[InstancePowerParams]

# Longer than a guest is given to shut itself down (the agent's setting), and booted again.
DEADLINE = timedelta(minutes=5)


def power_saga(name: str, step: str) -> Saga[InstancePowerParams]:
    """The saga whose one effect is the wish in its parameters. `step`: what that is called in timelines."""
    return Saga(
        name=name,
        params=InstancePowerParams,
        steps=(
            Step(name="accept", do=taken_at_start, undo=give_back),
            Step(name=step, opening=wish, do=make_so, no_undo="accept's undo does", pivot=True, deadline=DEADLINE),
            Step(name="settle", do=settle, only_decides=True, no_undo="after the pivot"),
        ),
        abandon=abandon,
    )


async def wish(ctx: Context) -> tuple[Instance]:
    """The guest defined anew from what it is made of now, and on, off or booted anew as wanted."""
    wanted = ctx.params.wanted
    instance, spec = await specified(ctx, wanted.power)
    set_power(spec, wanted)
    instance.desire_domain(turn_of(ctx), domain_wish(instance.host, spec, create=False))
    return (instance,)


async def make_so(ctx: Context) -> Together:
    on = ctx.params.wanted.power == agent.DESIRED_POWER_ON
    state = agent.DOMAIN_STATE_RUNNING if on else agent.DOMAIN_STATE_SHUTOFF
    answered = await domain_told(ctx, wish, lambda facts: facts.state == state)
    ctx.describe(f"on {answered.aggregate.host}")
    return answered.together


async def settle(ctx: Context) -> Together:
    instance = await recalled(ctx, Instance, instance_id_of(ctx))
    instance.power_done(str(ctx.saga_id))
    return Together((instance,))


async def give_back(ctx: Context) -> None:
    """As it was to be before; one append, so that nothing of this task comes after it."""
    await services_of(ctx).repository.change(
        Instance, instance_id_of(ctx), lambda it: it.power_back(str(ctx.saga_id), ctx.params.earlier)
    )


async def abandon(ctx: Context) -> Abandoned:
    """The task ends; before its effect the guest shall be as it was, after it the guest is as wanted."""
    instance = await services_of(ctx).repository.load(Instance, instance_id_of(ctx))
    if ctx.error is None:
        instance.power_done(str(ctx.saga_id))
    else:
        instance.power_back(str(ctx.saga_id), ctx.params.earlier)
    return Abandoned((instance,))
