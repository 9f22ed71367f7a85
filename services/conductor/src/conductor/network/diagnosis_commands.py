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
from core.errors import CirraError, FieldViolation, InvalidArgument, NotFound
from core.repository import Repository
from core.rpc.context import require_principal

# An agent waits for the answers to its probes; it has a limit for each.
TIMES, TIMES_OTHERS = 2, 1
PATIENCE_S = 9.0
_SIDE = PortPath(side=True)


@dataclass(frozen=True, slots=True)
class _Walked:
    """`others`: ports of other hosts, one of each that may know more."""

    host: str
    hops: Sequence[pb.Hop]
    traces: Sequence[pb.Trace] = ()
    others: Sequence[str] = ()


class DiagnosisCommands(diagnosis_commands_pb2_grpc.DiagnosisCommandsServicer):
    def __init__(self, repository: Repository, questions: Questions) -> None:
        self._repository = repository
        self._questions = questions

    async def Diagnose(self, request: pb.DiagnoseRequest, context: Any) -> pb.Diagnosis:
        """Raises NotFound, FailedPrecondition for a guest that does not run, InvalidArgument. A host that does not
        answer is a hop that is broken."""
        require_admin(require_principal())
        instance, peer = await self._instance(request.instance), await self._instance(request.peer)
        ports, far = await self._ports(request, instance), await self._ports_of(peer)
        if not ports and instance is not None:
            walked = [_Walked("", [diagnosis.without_ports(instance)])]
        else:
            about = PortPath(to=request.to, from_cidr=request.from_cidr, capture=request.capture)
            both = (*(self._walk(port, about) for port in ports), *(self._walk(port, _SIDE) for port in far))
            walked = list(await asyncio.gather(*both))
            others = await self._others(walked)
            walked += await asyncio.gather(*(self._walk(port, _SIDE, times=TIMES_OTHERS) for port in others))
        hops = [hop for each in walked for hop in each.hops]
        traces = [trace for each in walked for trace in each.traces]
        return pb.Diagnosis(hops=hops, verdict=diagnosis.verdict(hops), traces=traces)

    async def _instance(self, name: str) -> Instance | None:
        if not name:
            return None
        instance = await load_live(self._repository, Instance, uid("instance", name))
        diagnosis.require_active(instance)
        return instance

    async def _ports_of(self, instance: Instance | None) -> list[Port]:
        nics = instance.nics if instance is not None else ()
        return [await load_live(self._repository, Port, uid("port", nic.port)) for nic in nics]

    async def _others(self, walked: Sequence[_Walked]) -> list[Port]:
        """Ports of hosts that may know more of what was seen, and have not been asked."""
        asked = {each.host for each in walked}
        found: dict[str, Port] = {}
        for port_id in (port_id for each in walked for port_id in each.others):
            try:
                port = await load_live(self._repository, Port, UUID(port_id))
            except NotFound:
                # It went meanwhile; so it is no end of anybody's way.
                continue
            if (host := diagnosis.host_of(port)) and host not in asked:
                found.setdefault(host, port)
        return list(found.values())

    async def _ports(self, request: pb.DiagnoseRequest, instance: Instance | None) -> list[Port]:
        if not request.port:
            if instance is None:
                raise InvalidArgument(FieldViolation("instance", "give an instance, or a port"))
            return await self._ports_of(instance)
        port = await load_live(self._repository, Port, uid("port", request.port))
        if instance is not None and port.device_id != str(instance.id):
            raise InvalidArgument(FieldViolation("port", f"{port.id} is not one of instance {instance.id}"))
        if instance is None and port.device_id:
            diagnosis.require_active(await load_live(self._repository, Instance, UUID(port.device_id)))
        return [port]

    async def _walk(self, port: Port, about: PortPath, *, times: int = TIMES) -> _Walked:
        hops, traces, others = diagnosis.known_hops(port), list[pb.Trace](), list[str]()
        if host := diagnosis.host_of(port):
            question = agent.Question(path=about)
            question.path.port_id = str(port.id)
            try:
                answer = await self._questions.ask(host, "net", question, times=times, patience_s=PATIENCE_S)
            except CirraError as error:
                hops.append(diagnosis.host_hop(host, error))
            else:
                hops.append(diagnosis.host_hop(host, None))
                hops.extend(diagnosis.from_host(hop) for hop in answer.path.hops)
                traces.extend(diagnosis.trace_from_host(trace, host, port) for trace in answer.path.traces)
                others.extend(port_id for hop in answer.path.hops for port_id in hop.others)
        for hop in hops:
            hop.host, hop.port = host, str(port.id)
        return _Walked(host, hops, traces, others)
