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
from conductor.turn import Turn

ANY_ATTEMPT = 2**31 - 1


async def remove_domain(services: Services, instance_id: str, turn: Turn, host: str) -> bool:
    """True once nothing of the guest is on the host; False: the host is down, and learns of it when it returns.

    Says absent even of what was never asked for: the tombstone refuses a build that comes late.
    """
    instance, _ = await services.repository.change(
        Instance, UUID(instance_id), lambda it: it.remove_domain(turn, domain_absent(host, instance_id))
    )
    if instance.domain is None or not instance.domain.absent or instance.domain.host != host:
        return True  # this attempt was left before, and a later one has gone on elsewhere
    return await gone_or_out_of_reach(
        services,
        instance.domain,
        Instance,
        lambda it: it.observation,
        lambda facts: facts.state == agent.DOMAIN_STATE_ABSENT,
        wanted=lambda it: not it.observed_absent_on(host),
    )


async def unbind_port(services: Services, port_id: str, turn: Turn, host: str) -> bool:
    """True once the port is off the host; False: the host is down, and learns of it when it returns.

    Says absent even of what was never bound there: a binding that comes late is refused.
    """
    port, _ = await services.repository.change(Port, UUID(port_id), lambda it: it.unbind(host, turn))
    if not port.is_leaving(host):
        return True  # gone already, or a later attempt's
    gone = await gone_or_out_of_reach(
        services,
        port.bindings[host].desired,
        Port,
        lambda it: it.observation(host),
        lambda facts: facts.absent,
        wanted=lambda it: it.is_leaving(host),
    )
    await services.repository.change(Port, port.id, lambda it: it.binding_removed(host))
    return gone


async def release_port(services: Services, port_id: str, instance_id: str) -> None:
    """A port made for the instance goes with it; one that was there before is free again."""

    def decide(port: Port) -> None:
        if port.device_id == instance_id:
            port.release_device()

    await services.repository.change(Port, UUID(port_id), decide)


async def release_claim(
    services: Services, instance_id: str, turn: Turn, host: str, *, up_to: int, build_failed: bool = False
) -> None:
    """Gives the host's capacity back; held as "pending clean-up" while a host that is down still has the guest.

    `host`: where the claim was; empty if nobody can tell, since then no guest was wished for there. `up_to`: the claims
    of attempts up to this one. `build_failed`: the host could not build it. The instance leaves the host first, so that
    an assignment that comes late finds the attempt left; the host must not be asked of the instance therefore, which
    has none when this is repeated.
    """
    instance, _ = await services.repository.change(Instance, UUID(instance_id), lambda it: it.leave_host(turn))
    pending = bool(host) and not instance.observed_absent_on(host)
    await services.placement.ReleaseClaim(
        scheduling.ReleaseClaimRequest(
            claim_id=instance_id, attempt=up_to, pending_cleanup=pending, build_failed=build_failed
        )
    )
    if host:
        await confirm_cleanup(services, instance.id, host)


async def confirm_cleanup(services: Services, instance_id: UUID, host: str) -> None:
    """Once the instance is not on the host any more, by right and in fact: what is held there is given back.

    Asked after the release and again with each report: whichever comes last does it.
    """
    instance = await services.repository.load(Instance, instance_id)
    if instance.host != host and instance.observed_absent_on(host):
        await services.placement.ConfirmCleanup(scheduling.ConfirmCleanupRequest(claim_id=str(instance_id), host=host))
