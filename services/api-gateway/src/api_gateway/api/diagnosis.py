"""DiagnosisService: why a guest has no network. Asked of the conductor, which asks the hosts."""

from __future__ import annotations

import re
from ipaddress import ip_network

from api_gateway.api.call import Call, Servicer, served
from api_gateway.api.fields import Fields
from api_gateway.views.instance import INSTANCE
from api_gateway.views.network import PORT
from cirra.network.v1 import diagnosis_pb2 as pb
from cirra.network.v1 import diagnosis_pb2_grpc

# The conductor asks twice, with its own patience each time; and then perhaps other hosts, once.
TIMEOUT_S = 29.0
_MAX_PORT = 65_535
_TO = re.compile(r"(tcp|udp|sctp)/([0-9]{1,5})")


class DiagnosisService(Servicer, diagnosis_pb2_grpc.DiagnosisServiceServicer):
    @served
    async def Diagnose(self, request: pb.DiagnoseRequest, call: Call) -> pb.Diagnosis:
        fields = Fields()
        check_wish(fields, request)
        if not request.instance and not request.port:
            fields.refuse("instance", "give an instance, or a port")
        asked = pb.DiagnoseRequest(to=request.to, from_cidr=request.from_cidr, capture=request.capture)
        if request.instance:
            instance = await fields.reference(call.reader, INSTANCE, "instance", request.instance)
            asked.instance = instance.uid if instance else ""
        if request.port:
            port = await fields.reference(call.reader, PORT, "port", request.port)
            asked.port = port.uid if port else ""
        if request.peer:
            peer = await fields.reference(call.reader, INSTANCE, "peer", request.peer)
            asked.peer = peer.uid if peer else ""
        fields.check()
        conductor = self.parts.conductor
        found: pb.Diagnosis = await conductor.ask(conductor.diagnosis.Diagnose, asked, timeout_s=TIMEOUT_S)
        return found


def check_wish(fields: Fields, request: pb.DiagnoseRequest) -> None:
    """What others want, and where they are."""
    if request.to and request.to != "icmp":
        wanted = _TO.fullmatch(request.to)
        if wanted is None or not 1 <= int(wanted[2]) <= _MAX_PORT:
            fields.refuse("to", f"{request.to!r}: give tcp/22, udp/53, icmp, or the like")
    if request.from_cidr:
        try:
            ip_network(request.from_cidr)
        except ValueError as error:
            fields.refuse("from_cidr", f"{error}: give an address, or a range such as 203.0.113.0/24")
