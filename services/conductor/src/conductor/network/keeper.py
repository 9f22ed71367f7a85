"""Settles what follows from others' changes: gateways of hosts, floating IPs whose port has gone, and addresses that
guests make themselves as soon as their network has a subnet for it.

One replica at a time, under a lease. It takes no input: it looks at what is, and makes of it what should be. The log's
constraint rows and versions decide, so that two at once would be harmless.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog

from cirra.agent.v1.desired_pb2 import DesiredObject, Failure
from cirra.network.v1 import events_pb2 as pb
from conductor.network.floating_ip import FloatingIp
from conductor.network.host_gateway import HostAddress, HostGateway
from conductor.network.network import Network
from conductor.network.port import Port
from conductor.network.port_commands import AddressHints, choose_free, choose_mac, with_free_addresses
from conductor.network.port_notices import tell_hosts
from conductor.network.slaac import with_self_made
from conductor.network.unsettled import Unsettled, WantedGateway
from core.context import acting
from core.errors import CirraError, ResourceExhausted, Unavailable
from core.eventlog.connections import is_transient
from core.eventlog.leases import Leases
from core.eventlog.types import RecordedEvent
from core.ids import host_gateway_aggregate_id
from core.repository import Repository, again_on_conflict

log = structlog.get_logger(__name__)

LEASE = "conductor/network-keeper"
LEASE_TTL = timedelta(seconds=5)
ACTOR = "system/network-keeper"
# What was refused is tried again so often, and what no event told of is found.
LOOK_AT_LEAST_EVERY_S = 5.0
# Changes come in crowds.
GATHER_S = 0.1

_WAKING = frozenset(
    message.DESCRIPTOR.full_name
    for message in (
        pb.PortBindingDesired,
        pb.PortDeleted,
        pb.RouterInterfaceAdded,
        pb.RouterInterfaceRemoved,
        pb.RouterGatewaySet,
        pb.RouterSnatSet,
        pb.RouterGatewayCleared,
        pb.RouterDeleted,
        pb.FloatingIpDeleted,
        pb.SubnetCreated,
    )
)


class NetworkKeeper:
    """`happened` with every event, in any replica; `run` for ever.

    `caught_up` returns once the facts have the log up to a position, None: all of it, or raises Unavailable. `rng`
    chooses addresses; `tell` tells a host of desired state that has changed.
    """

    def __init__(
        self,
        repository: Repository,
        leases: Leases,
        unsettled: Unsettled,
        caught_up: Callable[[int | None], Awaitable[object]],
        *,
        tell: Callable[[DesiredObject], Awaitable[None]],
        holder: str,
        rng: random.Random | None = None,
    ) -> None:
        self._repository = repository
        self._leases = leases
        self._unsettled = unsettled
        self._caught_up = caught_up
        self._tell = tell
        self._holder = holder
        self._rng = rng or random.SystemRandom()
        self._woken = asyncio.Event()
        # Of the last event that woke it.
        self._position = 0

    def happened(self, event: RecordedEvent) -> None:
        """Wakes it, if anything follows."""
        if event.type in _WAKING:
            self._position = event.position
            self._woken.set()

    async def run(self) -> None:
        """While the lease is held here, keeps everything settled."""
        while True:
            async with self._leases.hold(LEASE, self._holder, LEASE_TTL) as held:
                up_to = None
                while not held.lost.is_set():
                    await self._look(up_to)
                    up_to = await self._news()
            log.warning("keeper.lease_lost", holder=self._holder)

    async def _look(self, up_to: int | None) -> None:
        try:
            await self._caught_up(up_to)
            await self.settle()
        except Exception as error:
            if is_transient(error) or isinstance(error, Unavailable):
                log.warning("keeper.can_not_look", error=repr(error))
            else:
                log.exception("keeper.could_not_look")

    async def _news(self) -> int | None:
        """Waits until it is time to look. At what has happened up to the position of what woke it, which the facts
        mostly have by then; None: at all there is."""
        try:
            async with asyncio.timeout(LOOK_AT_LEAST_EVERY_S):
                await self._woken.wait()
        except TimeoutError:
            return None
        self._woken.clear()
        up_to = self._position
        await asyncio.sleep(GATHER_S)
        return up_to

    async def settle(self) -> None:
        """One look at everything. What can't be settled keeps nothing else from it."""
        if not await self._unsettled.any():
            return
        with acting(actor=ACTOR):
            for floating_ip_id in await self._unsettled.orphans():
                await _attempted(self._free(floating_ip_id), floating_ip=str(floating_ip_id))
            for port_id in await self._unsettled.lacking():
                await _attempted(self._give_address(port_id), port=str(port_id))
            for wanted in await self._unsettled.gateways():
                await _attempted(self._gateway(wanted), host=wanted.host, network=wanted.network_id)

    async def _free(self, floating_ip_id: UUID) -> None:
        """It leads nowhere, if its port has gone: the facts may be behind."""

        async def once() -> None:
            floating_ip = await self._repository.load(FloatingIp, floating_ip_id)
            target = None if floating_ip.deleted else floating_ip.target
            if target is None or not (await self._repository.load(Port, UUID(target.port_id))).deleted:
                return
            floating_ip.disassociate()
            await self._repository.save(floating_ip)

        await again_on_conflict(once)

    async def _give_address(self, port_id: UUID) -> None:
        """Those that its guest makes as soon as it hears of the subnet: it is let through with them."""

        async def once() -> None:
            port = await self._repository.load(Port, port_id)
            if port.deleted:
                return
            network = await self._repository.load(Network, UUID(port.network_id))
            port.update(with_self_made(port, network))
            if (await self._repository.save(port)).position:
                await tell_hosts(port, self._tell)

        await again_on_conflict(once)

    async def _gateway(self, wanted: WantedGateway) -> None:
        async def once(hints: AddressHints) -> None:
            gateway = await self._load(wanted)
            if wanted.needed:
                await self._open(gateway, hints, with_address=wanted.address)
            else:
                gateway.close()
            await self._repository.save(gateway)

        await again_on_conflict(lambda: with_free_addresses(self._repository, self._rng, once))

    async def _load(self, wanted: WantedGateway) -> HostGateway:
        gateway_id = host_gateway_aggregate_id(wanted.host, wanted.network_id)
        found = await self._repository.find(HostGateway, gateway_id)
        return found or HostGateway.of(wanted.host, wanted.network_id)

    async def _open(self, gateway: HostGateway, hints: AddressHints, *, with_address: bool) -> None:
        gateway.open(gateway.mac_address or choose_mac(gateway.network_id, hints))
        if not with_address:
            gateway.release()
        elif gateway.address is None:
            try:
                gateway.allocate(await self._free_address(gateway.network_id, hints))
            except ResourceExhausted as error:
                gateway.refuse(_exhausted(gateway, error))

    async def _free_address(self, network_id: str, hints: AddressHints) -> HostAddress:
        """Of the network's IPv4 subnets: nothing of IPv6 is translated. Raises ResourceExhausted."""
        network = await self._repository.load(Network, UUID(network_id))
        subnets = [subnet for subnet in network.subnets.values() if subnet.cidr.version == 4]
        if not subnets:
            raise ResourceExhausted(f"external network {network_id} has no IPv4 subnet")
        chosen = await choose_free(self._repository, subnets, hints, set())
        return HostAddress(chosen.subnet, chosen.ip_address, network.subnets[chosen.subnet].cidr.prefixlen)


async def _attempted(attempt: Coroutine[Any, Any, None], **about: str) -> None:
    try:
        await attempt
    except CirraError as error:
        log.warning("keeper.not_settled", error=str(error), **about)


def _exhausted(gateway: HostGateway, error: ResourceExhausted) -> Failure:
    return Failure(
        reason="EXTERNAL_IP_ADDRESS_EXHAUSTED",
        message=f"{gateway.host} has no address: {error.message}; its guests without a floating IP don't get out",
        remedy="give back floating IPs that are not needed, or add a subnet to the external network",
        retryable=True,
    )
