"""What hosts say, taken in: a report is a claim, and becomes an event only where the aggregate finds it to be news."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar
from uuid import UUID

import structlog

from cirra.agent.v1 import desired_pb2 as agent
from conductor.compute.instance import Instance
from conductor.compute.teardown import confirm_cleanup
from conductor.network.port import Port
from conductor.services import Services
from core.aggregate import Aggregate
from core.bus import Poison, Received
from core.context import acting
from core.errors import NotFound
from core.ids import parse_uuid

log = structlog.get_logger(__name__)

A = TypeVar("A", bound=Aggregate)

FACTS = ("DomainObserved", "PortObserved", "LeaseSeen", "AddressSeen", "MetadataFetched", "Failure")
"""The facts that the conductor takes in; inventory, orphans and faults are placement's."""
_ACTED = frozenset(("domain", "port"))
"""Those that tell what became of a wish."""


class ReportHandler:
    """Handles the messages of the stream of reports. `epoch`: tells the log's, as this replica knows it."""

    def __init__(self, services: Services, epoch: Callable[[], int]) -> None:
        self._services = services
        self._epoch = epoch
        self._repository = services.repository
        self._by_fact: Mapping[str, Callable[[agent.Report, UUID], Awaitable[None]]] = {
            "domain": self._domain,
            "port": self._port,
            "lease": self._lease,
            "address": self._address,
            "metadata": self._metadata,
        }

    async def __call__(self, received: Received) -> None:
        report = received.decode(agent.Report)
        _, _, host, agent_name, _, object_id = received.subject.split(".", 5)
        if (report.host, report.agent, report.object_id) != (host, agent_name, object_id):
            raise Poison(f"a report of {host}'s {agent_name} agent speaks for another")
        fact = report.WhichOneof("facts") or report.kind
        handle, subject_id = self._by_fact.get(fact), parse_uuid(object_id)
        if handle is None or subject_id is None:
            raise Poison(f"report of unknown kind {fact!r} about {object_id!r}")
        if fact in _ACTED and 0 < report.epoch < self._epoch():
            # What was done by a wish that the log may not know; its number says nothing about those of now.
            log.info("report of an earlier epoch", host=report.host, fact=fact, object_id=object_id, epoch=report.epoch)
            return
        with acting(actor=f"host/{report.host}/{report.agent}"):
            try:
                await handle(report, subject_id)
            except NotFound:
                log.warning("report about an unknown object", host=report.host, fact=fact, object_id=object_id)

    async def _domain(self, report: agent.Report, instance_id: UUID) -> None:
        if not await self._services.answers.take(instance_id, report):
            await self._repository.change(Instance, instance_id, lambda it: it.observe_domain(report))
        if report.domain.state == agent.DOMAIN_STATE_ABSENT:
            await confirm_cleanup(self._services, instance_id, report.host)

    async def _port(self, report: agent.Report, port_id: UUID) -> None:
        if not await self._services.answers.take(port_id, report):
            await self._repository.change(Port, port_id, lambda it: it.observe(report))

    async def _lease(self, report: agent.Report, port_id: UUID) -> None:
        await self._repository.change(Port, port_id, lambda it: it.lease_seen(report.host, report.lease))

    async def _address(self, report: agent.Report, port_id: UUID) -> None:
        await self._repository.change(Port, port_id, lambda it: it.address_seen(report.host, report.address))

    async def _metadata(self, report: agent.Report, instance_id: UUID) -> None:
        await self._repository.change(
            Instance, instance_id, lambda it: it.metadata_was_fetched(report.host, report.metadata)
        )
