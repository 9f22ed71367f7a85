"""Waiting until a host has done what it was told, or has said that it can't."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

from google.protobuf.message import Message

from cirra.agent.v1 import desired_pb2 as agent
from conductor.hosts.observation import Observation
from conductor.services import Services
from core.aggregate import Aggregate
from core.saga import StepError

A = TypeVar("A", bound=Aggregate)
F = TypeVar("F", bound=Message)


async def told_and_done(
    services: Services,
    desired: agent.DesiredObject,
    aggregate_class: type[A],
    observation_of: Callable[[A], Observation[F] | None],
    done: Callable[[F], bool],
) -> None:
    """Sends the desired state and waits until its host has observed it.

    Raises `StepError` if the host says that it can't, or goes down.
    """
    aggregate_id = UUID(desired.object_id)

    async def look() -> bool | None:
        aggregate = await services.repository.load(aggregate_class, aggregate_id)
        observation = observation_of(aggregate)
        if observation is not None and observation.generation >= desired.generation:
            if observation.failed:
                raise _refused(desired, observation.failure)
            if done(observation.facts):
                return True
        if await services.desired_state.host_is_down(desired.host):
            raise StepError(f"{desired.host} went down", reason="HOST_DOWN", reschedule=True)
        return None

    async with services.commander.telling(desired):
        await services.changes.until(aggregate_id, look)


async def gone_or_out_of_reach(
    services: Services,
    desired: agent.DesiredObject,
    aggregate_class: type[A],
    observation_of: Callable[[A], Observation[F] | None],
    gone: Callable[[F], bool],
) -> bool:
    """Sends that the object shall be absent and waits for it. False: the host is down; its desired state keeps it
    absent, and the host learns of that when it returns."""
    aggregate_id = UUID(desired.object_id)

    async def look() -> bool | None:
        aggregate = await services.repository.load(aggregate_class, aggregate_id)
        observation = observation_of(aggregate)
        if observation is not None and observation.generation >= desired.generation:
            if observation.failed:
                raise _refused(desired, observation.failure)
            if gone(observation.facts):
                return True
        return False if await services.desired_state.host_is_down(desired.host) else None

    async with services.commander.telling(desired):
        return await services.changes.until(aggregate_id, look)


def _refused(desired: agent.DesiredObject, failure: agent.Failure) -> StepError:
    return StepError(
        f"{desired.host}: {failure.message}",
        reason=failure.reason,
        remedy=failure.remedy,
        reschedule=failure.reschedule,
    )
