"""What would happen: claims in the mind only."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection

from cirra.placement.v1 import scheduling_pb2 as api
from placement.hosts.capacity import amounts
from placement.hosts.table import HostTable
from placement.scheduling.filters.base import Mask, all_of
from placement.scheduling.refusal import NoValidHost
from placement.scheduling.scheduler import Scheduler

MAX_COUNT = 1000
# Claims are served in between.
_AT_ONCE = 8


class ThoughtAway:
    """Leaves out the hosts that are to be thought away."""

    name = "thought_away"
    ignores_claims = True

    def __init__(self, hosts: Collection[str]) -> None:
        self._hosts = frozenset(hosts)

    def mask(self, hosts: HostTable, request: api.ClaimRequest) -> Mask:
        left = all_of(hosts)
        left[[row for host in self._hosts if (row := hosts.find(host)) is not None]] = False
        return left


async def simulate(scheduler: Scheduler, table: HostTable, request: api.SimulateRequest) -> api.SimulateResponse:
    """Places one after the other, each on the best host, until `count` are placed or one finds none."""
    hosts = table.copy()
    deciding = scheduler.with_filter(ThoughtAway(request.without_hosts))
    placed: Counter[str] = Counter()
    answer = api.SimulateResponse(hosts_considered=len(hosts))
    group = request.claim.group if request.claim.HasField("group") else None
    for number in range(request.count):
        try:
            host = deciding.choose(hosts, request.claim, shuffled=False).hosts[0]
        except NoValidHost as refusal:
            answer.refusal.CopyFrom(refusal.decision)
            answer.refusal_message, answer.refusal_remedy = refusal.message, refusal.remedy
            break
        hosts.take(hosts.row(host), tuple(amounts(request.claim.resources).values()), group)
        placed[host] += 1
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
    answer.placed = placed.total()
    answer.placed_by_host.update(placed)
    return answer
