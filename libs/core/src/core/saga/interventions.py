"""What a person does about a run: have a stuck one retried, resolve it, cancel a running one. All of it events.

Whoever is first wins: two persons, or a person and a replica that adopts, meet in the run's version, and the second one
decides again on what the run is then.
"""

from __future__ import annotations

from uuid import UUID

from core.context import acting
from core.errors import FailedPrecondition
from core.repository import Repository, Saved, again_on_conflict
from core.saga.definition import Abandoned
from core.saga.effects import context_of, params_of
from core.saga.engine import SagaEngine
from core.saga.plan import can_unwind
from core.saga.state import SagaRun, SagaStatus


class Interventions:
    """One per conductor replica, beside its engine. All raise NotFound for a run that never was."""

    def __init__(self, repository: Repository, engine: SagaEngine) -> None:
        self._repository = repository
        self._engine = engine

    async def retry(self, saga_id: UUID, reason: str) -> tuple[SagaRun, Saved]:
        """A stuck run goes on where it stands, here. Raises FailedPrecondition unless it is stuck.

        Should this replica die before it begins, another one adopts the run.
        """
        runner = self._engine.runner
        run, saved = await self._repository.change(SagaRun, saga_id, lambda it: it.retry(reason, runner))
        self._engine.launch(saga_id)
        return run, saved

    async def resolve(self, saga_id: UUID, reason: str) -> tuple[SagaRun, Saved]:
        """Ends a stuck run: what its saga can release is released, the rest is named in `SagaResolved.left`.

        Raises FailedPrecondition unless it is stuck. Until the last append the run is as stuck as before: who dies in
        between, or loses that append, has done nothing that can't be done again, or retried.
        """

        async def once() -> tuple[SagaRun, Saved]:
            run = await self._repository.load(SagaRun, saga_id)
            run.require_stuck("resolved")
            abandoned = await self._abandon(run)
            run.resolve(reason, abandoned.left)
            return run, await self._repository.save(run, *abandoned.changed)

        return await again_on_conflict(once)

    async def cancel(self, saga_id: UUID, reason: str) -> tuple[SagaRun, Saved]:
        """Asks a running run to unwind. Raises FailedPrecondition where that is not possible (any more).

        Being asked is no promise: a pivot that is passed meanwhile is not turned back.
        """

        def decide(run: SagaRun) -> None:
            self._require_cancellable(run)
            run.request_cancel(reason)

        run, saved = await self._repository.change(SagaRun, saga_id, decide)
        self._engine.cancel_requested(saga_id)
        return run, saved

    async def _abandon(self, run: SagaRun) -> Abandoned:
        saga = self._engine.definition(run)
        if saga.abandon is None:
            return Abandoned()
        assert run.stuck is not None
        at = (run.stuck.step, run.stuck.item)
        params = params_of(saga, run)
        context = context_of(run, params, self._engine.services, at, run.attempt, failures=(run.stuck.error,))
        # What is appended on the way is because of the run; the request is answered by the append that ends it.
        with acting(causation=str(run.id)):
            return await saga.abandon(context)

    def _require_cancellable(self, run: SagaRun) -> None:
        saga = self._engine.definition(run)
        if run.status is SagaStatus.STUCK:
            raise _refused(run, "is stuck", "OPERATION_STUCK", "have it retried, or resolve it")
        if run.status.ended:
            raise _refused(run, f"has ended ({run.status.value})", "OPERATION_DONE", "nothing is left to cancel")
        if not can_unwind(saga, run, params_of(saga, run)):
            why = "only goes forward" if saga.forward_only else "is past the point up to which it can be undone"
            raise _refused(run, why, "OPERATION_NOT_CANCELLABLE", "wait for its end, then undo what it made")


def _refused(run: SagaRun, why: str, reason: str, remedy: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"operation {run.id} ({run.saga}) {why}: it can't be cancelled", reason=reason, remedy=remedy
    )
