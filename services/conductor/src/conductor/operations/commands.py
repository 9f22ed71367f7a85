"""Commands on operations: what a person does about sagas. For administrators."""

from __future__ import annotations

from cirra.conductor.v1 import operations_pb2_grpc
from cirra.identity.v1.identity_pb2 import Principal
from cirra.operations.v1 import operations_pb2 as pb
from conductor.access import require_admin
from conductor.fields import Fields, uid
from conductor.requests import Commands, Done, Requests, command
from core.repository import Repository
from core.saga import Interventions, SagaRun


class OperationCommands(Commands, operations_pb2_grpc.OperationCommandsServicer):
    def __init__(self, repository: Repository, interventions: Interventions, requests: Requests | None = None) -> None:
        super().__init__(repository, requests)
        self._interventions = interventions

    @command(SagaRun)
    async def RetryOperation(self, request: pb.RetryOperationRequest, principal: Principal) -> Done:
        reason = _reason(principal, request.reason, required=False)
        run, saved = await self._interventions.retry(uid("name", request.name), reason)
        return Done(run, saved, str(run.id))

    @command(SagaRun)
    async def ResolveOperation(self, request: pb.ResolveOperationRequest, principal: Principal) -> Done:
        reason = _reason(principal, request.reason, required=True)
        run, saved = await self._interventions.resolve(uid("name", request.name), reason)
        return Done(run, saved, str(run.id))

    @command(SagaRun)
    async def CancelOperation(self, request: pb.CancelOperationRequest, principal: Principal) -> Done:
        reason = _reason(principal, request.reason, required=False)
        run, saved = await self._interventions.cancel(uid("name", request.name), reason)
        return Done(run, saved, str(run.id))


def _reason(principal: Principal, reason: str, *, required: bool) -> str:
    """The reason, once it and its giver are found good. It is kept for ever: others will ask."""
    require_admin(principal)
    fields = Fields()
    fields.reason("reason", reason, required=required)
    fields.check()
    return reason.strip()
