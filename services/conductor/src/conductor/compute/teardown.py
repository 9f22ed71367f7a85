"""Taking an instance's parts away: the undos of a create and the steps of a delete. Absent is success, each time."""

from __future__ import annotations

from uuid import UUID

from cirra.agent.v1 import desired_pb2 as agent
from cirra.placement.v1 import scheduling_pb2 as scheduling
from conductor.compute.domain import domain_absent
from conductor.compute.instance import Instance
from conductor.hosts.settle import gone_or_out_of_reach
from conductor.network.port import Port
from conductor.services import Services

ANY_ATTEMPT = 2**31 - 1


async def remove_domain(services: Services, instance_id: str, task_id: str, host: str) -> bool:
    """True once nothing of the guest is on the host; False: the host is down, and learns of it when it returns.

    Says absent even of what was never asked for: the tombstone refuses a build that comes late.
    """
    instance, _ = await services.repository.change(
        Instance, UUID(instance_id), lambda it: it.desire_domain(task_id, domain_absent(host, instance_id))
    )
    assert instance.domain is not None
    return await gone_or_out_of_reach(
        services,
        instance.domain,
        Instance,
        lambda it: it.observation,
        lambda facts: facts.state == agent.DOMAIN_STATE_ABSENT,
    )


async def unbind_port(services: Services, port_id: str, host: str) -> bool:
    """True once the port is off the host; False: the host is down, and learns of it when it returns."""
    port = await services.repository.find(Port, UUID(port_id))
    if port is None or host not in port.bindings:
        return True
    port, _ = await services.repository.change(Port, port.id, lambda it: it.unbind(host))
    if host not in port.bindings:
        return True
    gone = await gone_or_out_of_reach(
        services, port.bindings[host].desired, Port, lambda it: it.observation(host), lambda facts: facts.absent
    )
    await services.repository.change(Port, port.id, lambda it: it.binding_removed(host))
    return gone


async def release_port(services: Services, port_id: str, instance_id: str) -> None:
    """A port made for the instance goes with it; one that was there before is free again."""

    def decide(port: Port) -> None:
        if port.device_id == instance_id:
            port.release_device()

    await services.repository.change(Port, UUID(port_id), decide)


async def release_claim(services: Services, instance_id: str, task_id: str, attempt: int) -> None:
    """Gives the host's capacity back; held as "pending clean-up" while a host that is down still has the guest."""
    instance = await services.repository.load(Instance, UUID(instance_id))
    host = instance.host
    pending = bool(host) and not _confirmed_absent(instance)
    await services.placement.ReleaseClaim(
        scheduling.ReleaseClaimRequest(claim_id=instance_id, attempt=attempt, pending_cleanup=pending)
    )
    if host:
        await services.repository.change(Instance, instance.id, lambda it: it.release_host(task_id, host))
    if pending:
        await confirm_cleanup(services, UUID(instance_id), host)


async def confirm_cleanup(services: Services, instance_id: UUID, host: str) -> None:
    """Once the instance is not on the host any more, by right and in fact: what is held there is given back.

    Asked after the release and again with each report: whichever comes last does it.
    """
    instance = await services.repository.load(Instance, instance_id)
    if instance.host != host and instance.observed_absent_on(host):
        await services.placement.ConfirmCleanup(scheduling.ConfirmCleanupRequest(claim_id=str(instance_id), host=host))


def _confirmed_absent(instance: Instance) -> bool:
    """Never asked for there, or said to be gone."""
    never_asked = instance.domain is None or instance.domain.host != instance.host
    return never_asked or instance.observed_absent_on(instance.host)
