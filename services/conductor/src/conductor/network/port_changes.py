"""What a request makes of a port that is there: checked, addresses chosen."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from cirra.network.v1 import network_pb2 as public
from conductor.fields import Fields
from conductor.network import port_security
from conductor.network.bandwidth import check_bandwidth
from conductor.network.network import Network
from conductor.network.port import Port
from conductor.network.port_commands import AddressHints, WantedPort, chosen_addresses
from conductor.network.port_security import changed_security
from conductor.network.port_terms import PortTerms
from core.ids import last_segment
from core.repository import Repository

UPDATABLE = ("display_name", "fixed_ips", "qos", *port_security.UPDATABLE)


async def changed_terms(
    repository: Repository, port: Port, request: public.UpdatePortRequest, hints: AddressHints
) -> PortTerms:
    """As the mask says. Call it within `with_free_addresses`.

    Raises InvalidArgument, NotFound for groups of others, ResourceExhausted (SUBNET_EXHAUSTED).
    """
    given, paths, present = request.port, frozenset(request.update_mask.paths), port.terms
    _check(given, paths)
    fixed_ips = present.fixed_ips
    if "fixed_ips" in paths:
        fixed_ips = await _addresses(repository, port, given.fixed_ips, hints)
    return PortTerms(
        display_name=given.display_name if "display_name" in paths else present.display_name,
        fixed_ips=fixed_ips,
        qos=given.qos if "qos" in paths else present.qos,
        security=await changed_security(repository, present.security, request, port.project_id),
    )


def _check(given: public.Port, paths: Collection[str]) -> None:
    fields = Fields("port.")
    if "display_name" in paths:
        fields.title("display_name", given.display_name, required=False)
    if "qos" in paths:
        check_bandwidth(fields, "qos", given.qos)
    if "fixed_ips" in paths and not given.fixed_ips:
        fields.refuse("fixed_ips", "a port has an address at least: give a subnet, or an address")
    fields.check()


async def _addresses(
    repository: Repository, port: Port, asked: Sequence[public.FixedIp], hints: AddressHints
) -> tuple[public.FixedIp, ...]:
    wanted = WantedPort(
        project_id=port.project_id,
        network_id=port.network_id,
        fixed_ips=_keeping(port.terms.fixed_ips, asked),
        mac_address=port.mac_address,
    )
    network = await repository.load(Network, UUID(port.network_id))
    return tuple(await chosen_addresses(repository, wanted, network, port.mac_address, hints))


def _keeping(present: Sequence[public.FixedIp], asked: Sequence[public.FixedIp]) -> list[public.FixedIp]:
    """Where a subnet alone is asked for, an address there that the port has already is as good as any."""
    named = {fixed.ip_address for fixed in asked}
    kept = [fixed for fixed in present if fixed.ip_address not in named]
    found = []
    for fixed in asked:
        same = next((it for it in kept if not fixed.ip_address and it.subnet == last_segment(fixed.subnet)), None)
        if same is not None:
            kept.remove(same)
        found.append(same or fixed)
    return found
