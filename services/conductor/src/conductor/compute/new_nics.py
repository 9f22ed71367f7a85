"""The ports of NICs that a request asks for: one that is there, or a new one on a network."""

from __future__ import annotations

from dataclasses import dataclass

from cirra.compute.v1 import compute_pb2 as public
from cirra.network.v1 import network_pb2 as network_api
from conductor.fields import Fields, uid
from conductor.network.port import Port
from conductor.network.port_commands import AddressHints, WantedPort, new_port
from conductor.network.port_security import PortSecurity
from conductor.requests import load_live
from core.errors import FieldViolation, InvalidArgument
from core.repository import Repository


@dataclass(frozen=True, slots=True)
class NicOrder:
    """`field`: where it is in the request ("instance.nics[0]")."""

    field: str
    nic: public.InstanceNic
    project_id: str
    instance_id: str
    # Of a new port.
    security: PortSecurity


def check_nic(fields: Fields, field: str, nic: public.InstanceNic) -> None:
    if bool(nic.network) == bool(nic.port):
        fields.refuse(field, "give a network or a port, one of the two")
    elif nic.port and nic.fixed_ip:
        fields.refuse(f"{field}.fixed_ip", "a port has its addresses already: leave it out")


async def port_of(repository: Repository, order: NicOrder, hints: AddressHints) -> Port:
    """The instance's, not yet saved. Call it within `with_free_addresses`.

    Raises InvalidArgument, NotFound, FailedPrecondition for a port in use, ResourceExhausted.
    """
    field, nic = order.field, order.nic
    if nic.port:
        port = await load_live(repository, Port, uid(f"{field}.port", nic.port))
        if port.project_id != order.project_id:
            raise InvalidArgument(FieldViolation(f"{field}.port", f"there is no port {nic.port} here"))
        port.set_device(order.instance_id)
        return port
    wanted = WantedPort(
        project_id=order.project_id,
        network_id=str(uid(f"{field}.network", nic.network)),
        fixed_ips=[network_api.FixedIp(ip_address=nic.fixed_ip)] if nic.fixed_ip else [],
        device_id=order.instance_id,
        owned_by_device=True,
        security=order.security,
    )
    try:
        return await new_port(repository, wanted, hints)
    except InvalidArgument as error:
        # The only field of a port that a NIC gives is its address.
        violations = [FieldViolation(f"{field}.fixed_ip", each.description) for each in error.violations]
        raise InvalidArgument(*violations) from error
