"""HostService: hosts, services, and enrolment."""

from __future__ import annotations

from typing import Any

from api_gateway.api.call import Call, Servicer, served
from api_gateway.api.fields import Fields
from api_gateway.api.forward import forwarded, named, the
from api_gateway.api.read import getter, lister
from api_gateway.views.placement import HOST
from cirra.placement.v1 import differences_pb2 as differences
from cirra.placement.v1 import placement_pb2 as pb
from cirra.placement.v1 import placement_pb2_grpc
from cirra.placement.v1.scheduling_pb2 import GetLivenessRequest
from core.rpc.retry import retried

MAX_TTL_S = 7 * 24 * 3600


_name_host = named(HOST)


async def _prepare_approval(command: pb.ApproveEvacuationRequest, call: Call) -> None:
    fields = Fields()
    fields.title("reason", command.reason)
    fields.check()
    await _name_host(command, call)


async def _prepare_host(command: pb.UpdateHostRequest, call: Call) -> None:
    """What may be set is placement's to say."""
    command.host.name = (await call.reader.find(HOST, command.host.name, field="host.name")).resource.name


class HostService(Servicer, placement_pb2_grpc.HostServiceServicer):
    GetHost = getter(HOST)
    ListHosts = lister(HOST, pb.ListHostsResponse)
    AcceptHostDifferences = forwarded(lambda conductor: conductor.hosts.AcceptHostDifferences, named(HOST), the(HOST))
    EnableHost = forwarded(lambda conductor: conductor.hosts.EnableHost, named(HOST), the(HOST))
    DisableHost = forwarded(lambda conductor: conductor.hosts.DisableHost, named(HOST), the(HOST))
    UpdateHost = forwarded(lambda conductor: conductor.placement.UpdateHost, _prepare_host, the(HOST))
    ApproveEvacuation = forwarded(lambda conductor: conductor.hosts.ApproveEvacuation, _prepare_approval, the(HOST))

    @served
    async def ListHostDifferences(
        self, request: differences.ListHostDifferencesRequest, call: Call
    ) -> differences.HostDifferences:
        """Asked of the conductor, which hears what hosts have."""
        row = await call.reader.find(HOST, request.name)
        conductor = self.parts.conductor
        asked = differences.ListHostDifferencesRequest(name=row.resource.name)
        answer: differences.HostDifferences = await conductor.ask(conductor.hosts.ListHostDifferences, asked)
        return answer

    @served
    async def ListServices(self, request: pb.ListServicesRequest, call: Call) -> pb.ListServicesResponse:
        """Asked of placement, which hears the heartbeats."""
        placement = self.parts.placement
        answer = await retried(lambda: placement.GetLiveness(GetLivenessRequest()), timeout_s=5.0)
        services = [
            pb.ServiceStatus(
                service=entry.service,
                instance=entry.instance,
                up=entry.up,
                silence_ms=entry.silence_ms,
                version=entry.version,
                host=entry.host,
            )
            for entry in answer.entries
        ]
        services.sort(key=lambda status: (status.service, status.instance))
        return pb.ListServicesResponse(services=services)

    @served
    async def CreateEnrolmentToken(self, request: pb.CreateEnrolmentTokenRequest, call: Call) -> pb.EnrolmentToken:
        command = pb.CreateEnrolmentTokenRequest()
        command.CopyFrom(request)
        fields = Fields()
        fields.host("host", request.host)
        fields.title("availability_zone", request.availability_zone, required=False)
        fields.between("ttl_seconds", request.ttl_seconds, 0, MAX_TTL_S, "seconds")
        fields.request_id(request.request_id)
        fields.check()
        conductor = self.parts.conductor
        token: pb.EnrolmentToken = await conductor.ask(conductor.hosts.CreateEnrolmentToken, command)
        return token

    async def Enroll(self, request: pb.EnrollRequest, context: Any) -> pb.EnrollResponse:
        """The enrolment token is the proof; whoever calls has no other. May be repeated with the same keys."""
        fields = Fields()
        fields.host("host", request.host)
        for field in ("token", "certificate_request", "nats_public_key"):
            if not getattr(request, field):
                fields.refuse(field, "it is empty")
        fields.check()
        conductor = self.parts.conductor
        answer: pb.EnrollResponse = await conductor.ask(conductor.hosts.Enroll, request)
        return answer
