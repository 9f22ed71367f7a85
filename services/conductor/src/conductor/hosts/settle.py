"""Waiting until a host has done what it was told, or has said that it can't.

An observe-only host is told nothing: whoever needs it waits, and is not late, until a person has accepted what differs
there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeVar
from uuid import UUID

from google.protobuf.message import Message

from cirra.agent.v1 import desired_pb2 as agent
from conductor.hosts.answers import Expected
from conductor.hosts.desired_state import HostStanding
from conductor.hosts.observation import Observation
from conductor.services import Services
from core.aggregate import Aggregate
from core.ids import host_aggregate_id
from core.saga import StepError, Together, standing_still

A = TypeVar("A", bound=Aggregate)
F = TypeVar("F", bound=Message)


class Answer(Enum):
    """What became of a wish. OBSERVE_ONLY: the epoch was raised meanwhile; it has to be told again."""

    DONE = auto()
    DOWN = auto()
    OBSERVE_ONLY = auto()


@dataclass(frozen=True, slots=True)
class Answered(Generic[A]):
    """The aggregate with its host's answer: in the log, or to be saved with the step (`together`)."""

    aggregate: A
    expected: Expected

    @property
    def together(self) -> Together:
        """The outcome of a step that has nothing else to save."""
        return Together((self.aggregate,), settled=self.expected.settle)


async def told_and_done(
    services: Services,
    desired: agent.DesiredObject,
    aggregate_class: type[A],
    observation_of: Callable[[A], Observation[F] | None],
    done: Callable[[F], bool],
    take_in: Callable[[A, agent.Report], None],
) -> Answered[A]:
    """Sends the desired state and waits until its host has observed it.

    `take_in`: what the aggregate makes of a report. Raises `StepError` if the host says that it can't, or goes down.
    """
    object_id = UUID(desired.object_id)

    def fits(report: agent.Report) -> bool:
        current = report.host == desired.host and report.generation >= desired.generation
        return current and not report.HasField("failure") and done(getattr(report, desired.kind))

    with services.answers.expected(object_id, fits, lambda: services.changes.wake(object_id)) as expected:
        look = _look(services, desired, aggregate_class, observation_of, done)

        async def look_with_answer() -> Answer | None:
            return Answer.DONE if expected.report is not None else await look()

        if await _tell(services, desired, look_with_answer) is Answer.DOWN:
            raise StepError(
                f"{desired.host} is down",
                reason="HOST_DOWN",
                remedy="try again when it is up, or ask why",
                reschedule=True,
            )
        aggregate = await services.repository.recall(aggregate_class, object_id)
        if expected.report is not None:
            take_in(aggregate, expected.report)
        return Answered(aggregate, expected)


async def gone_or_out_of_reach(
    services: Services,
    desired: agent.DesiredObject,
    aggregate_class: type[A],
    observation_of: Callable[[A], Observation[F] | None],
    gone: Callable[[F], bool],
    *,
    wanted: Callable[[A], bool],
) -> bool:
    """Sends that the object shall be absent and waits for it. False: the host is down; its desired state keeps it
    absent, and the host learns of that when it returns.

    `wanted`: whether it is still to be removed. Two runners may be at one undo, when one has adopted the run of one
    that lives: the first of them to be done notes that, and there is no observation left for the other.
    """
    observed_gone = _look(services, desired, aggregate_class, observation_of, gone)

    async def look() -> Answer | None:
        aggregate = await services.repository.glance(aggregate_class, UUID(desired.object_id))
        return await observed_gone() if wanted(aggregate) else Answer.DONE

    return await _tell(services, desired, look, reachable=False) is Answer.DONE


def _look(
    services: Services,
    desired: agent.DesiredObject,
    aggregate_class: type[A],
    observation_of: Callable[[A], Observation[F] | None],
    done: Callable[[F], bool],
) -> Callable[[], Awaitable[Answer | None]]:
    aggregate_id = UUID(desired.object_id)

    async def look() -> Answer | None:
        aggregate = await services.repository.glance(aggregate_class, aggregate_id)
        observation = observation_of(aggregate)
        if observation is not None and observation.generation >= desired.generation:
            if observation.failed:
                raise _refused(desired, observation.failure)
            if done(observation.facts):
                return Answer.DONE
        standing = await services.standings.standing(desired.host)
        if standing.observe_only:
            return Answer.OBSERVE_ONLY
        return Answer.DOWN if standing.down and await services.standings.is_down(desired.host) else None

    return look


async def _tell(
    services: Services,
    desired: agent.DesiredObject,
    look: Callable[[], Awaitable[Answer | None]],
    *,
    reachable: bool = True,
) -> Answer:
    """`reachable`: an observe-only host that is down is waited for: it may be so by a log that is old."""
    while True:
        standing = await _told_anything(services, desired.host, reachable)
        if standing.observe_only:
            return Answer.DOWN
        async with services.commander.telling(desired, standing.epoch):
            answer = await services.changes.until(UUID(desired.object_id), look)
        if answer is not Answer.OBSERVE_ONLY:
            return answer


async def _told_anything(services: Services, host: str, reachable: bool) -> HostStanding:
    """Returns once the host may be told something, or, unless it must be `reachable`, is down."""

    async def look() -> HostStanding | None:
        standing = await services.standings.standing(host)
        out_of_reach = standing.down and not reachable
        return None if standing.observe_only and not out_of_reach else standing

    found = await look()
    if found is not None:
        return found
    with standing_still():
        return await services.changes.until(host_aggregate_id(host), look)


def _refused(desired: agent.DesiredObject, failure: agent.Failure) -> StepError:
    return StepError(
        f"{desired.host}: {failure.message}",
        reason=failure.reason,
        remedy=failure.remedy,
        reschedule=failure.reschedule,
    )
