"""Why a guest has no network: what the log tells, and what its hosts see when they are asked (ADR 29)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cirra.agent.v1 import desired_pb2 as agent
from cirra.agent.v1.diagnosis_pb2 import PortPath
from cirra.conductor.v1 import diagnosis_commands_pb2_grpc
from cirra.network.v1 import diagnosis_pb2 as pb
from conductor.access import require_admin
from conductor.compute.instance import Instance
from conductor.fields import uid
from conductor.hosts.questions import Questions
from conductor.network import diagnosis
from conductor.network.port import Port
from conductor.requests import load_live
from core.errors import CirraError, FieldViolation, InvalidArgument
from core.repository import Repository
from core.rpc.context import require_principal

# An agent waits for the answers to its probes; it has a limit for each.
TIMES = 2
PATIENCE_S = 9.0


@dataclass(frozen=True, slots=True)
class _Walked:
    hops: Sequence[pb.Hop]
    traces: Sequence[pb.Trace] = ()


class DiagnosisCommands(diagnosis_commands_pb2_grpc.DiagnosisCommandsServicer):
    def __init__(self, repository: Repository, questions: Questions) -> None:
        self._repository = repository
        self._questions = questions

    async def Diagnose(self, request: pb.DiagnoseRequest, context: Any) -> pb.Diagnosis:
        """Raises NotFound, FailedPrecondition for a guest that does not run, InvalidArgument. A host that does not
        answer is a hop that is broken."""
        require_admin(require_principal())
        instance = await self._instance(request)
        ports = await self._ports(request, instance)
        if not ports and instance is not None:
            walked = [_Walked([diagnosis.without_ports(instance)])]
        else:
            walked = list(await asyncio.gather(*(self._walk(port, request) for port in ports)))
        hops = [hop for each in walked for hop in each.hops]
        traces = [trace for each in walked for trace in each.traces]
        return pb.Diagnosis(hops=hops, verdict=diagnosis.verdict(hops), traces=traces)

    async def _instance(self, request: pb.DiagnoseRequest) -> Instance | None:
        if not request.instance:
            return None
        instance = await load_live(self._repository, Instance, uid("instance", request.instance))
        diagnosis.require_active(instance)
        return instance

    async def _ports(self, request: pb.DiagnoseRequest, instance: Instance | None) -> list[Port]:
        if not request.port:
            if instance is None:
                raise InvalidArgument(FieldViolation("instance", "give an instance, or a port"))
            return [await load_live(self._repository, Port, uid("port", nic.port)) for nic in instance.nics]
        port = await load_live(self._repository, Port, uid("port", request.port))
        if instance is not None and port.device_id != str(instance.id):
            raise InvalidArgument(FieldViolation("port", f"{port.id} is not one of instance {instance.id}"))
        if instance is None and port.device_id:
            diagnosis.require_active(await load_live(self._repository, Instance, UUID(port.device_id)))
        return [port]

    async def _walk(self, port: Port, request: pb.DiagnoseRequest) -> _Walked:
        hops, traces = diagnosis.known_hops(port), list[pb.Trace]()
        if host := diagnosis.host_of(port):
            about = PortPath(port_id=str(port.id), to=request.to, from_cidr=request.from_cidr, capture=request.capture)
            try:
                answer = await self._questions.ask(
                    host, "net", agent.Question(path=about), times=TIMES, patience_s=PATIENCE_S
                )
            except CirraError as error:
                hops.append(diagnosis.host_hop(host, error))
            else:
                hops.append(diagnosis.host_hop(host, None))
                hops.extend(diagnosis.from_host(hop) for hop in answer.path.hops)
                traces.extend(diagnosis.trace_from_host(trace, host, port) for trace in answer.path.traces)
        for hop in hops:
            hop.host, hop.port = host, str(port.id)
        return _Walked(hops, traces)
