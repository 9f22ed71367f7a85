"""Why a guest has no network (administrators)."""

from __future__ import annotations

from cirra.compute.v1.compute_pb2 import Instance
from cirra.network.v1 import diagnosis_pb2 as pb
from cirra.network.v1.diagnosis_pb2_grpc import DiagnosisServiceStub
from cirra.network.v1.network_pb2 import Port
from cirra_sdk.resources.collection import name_of
from cirra_sdk.transport import Transport


class Diagnosing:
    """The path of a guest's packets, walked on the hosts concerned."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = DiagnosisServiceStub(transport.channel)

    async def diagnose(
        self,
        instance: Instance | str = "",
        *,
        port: Port | str = "",
        to: str = "",
        from_cidr: str = "",
        capture: bool = False,
        peer: Instance | str = "",
    ) -> pb.Diagnosis:
        """All ports of an instance, or one. *to*: what others want from it, "tcp/22"; *from_cidr*: where they are.
        *peer*: whom it doesn't reach, or who doesn't reach it.

        Raises NotFound, and FailedPrecondition for an instance that is not ACTIVE.
        """
        request = pb.DiagnoseRequest(
            instance=name_of(instance),
            port=name_of(port),
            to=to,
            from_cidr=from_cidr,
            capture=capture,
            peer=name_of(peer),
        )
        found: pb.Diagnosis = await self._transport.unary(self._stub.Diagnose, request)
        return found
