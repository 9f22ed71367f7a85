"""That no host can take a request, in one line that a person can act on."""

from __future__ import annotations

from collections.abc import Sequence

from cirra.placement.v1 import scheduling_pb2 as scheduling
from core.errors import ResourceExhausted, Unavailable

NO_HOSTS = "enrol hosts, or wait until the first one is heard: `cirra host list`"
ANYTHING = "ask for less, or free, enable or add hosts"


class NoValidHost(ResourceExhausted):
    """No host can take the request; `decision` tells how many each filter removed."""

    reason = "NO_VALID_HOST"

    def __init__(
        self, decision: scheduling.Decision, removals: Sequence[tuple[scheduling.FilterResult, str]] = ()
    ) -> None:
        super().__init__(
            "; ".join([f"0 of {decision.hosts_considered} hosts can take it", *(_told(each) for each, _ in removals)]),
            remedy=_remedy(decision, removals),
            metadata={f"removed_by_{each.filter}": str(each.removed) for each, _ in removals},
        )
        self.decision = decision


class HostsAwaited(Unavailable):
    """The only hosts that could take the request fell silent a moment ago, and may be back in another."""

    reason = "HOSTS_AWAITED"

    def __init__(self, hosts: Sequence[str]) -> None:
        more = f" and {len(hosts) - 1} more" if len(hosts) > 1 else ""
        super().__init__(f"no other host can take it than {hosts[0]}{more}, which fell silent a moment ago")


def _told(result: scheduling.FilterResult) -> str:
    """ "vcpus: 1 host removed, 8 of 8 used"."""
    hosts = "1 host" if result.removed == 1 else f"{result.removed} hosts"
    return f"{result.filter}: {hosts} removed" + (f", {result.detail}" if result.detail else "")


def _remedy(decision: scheduling.Decision, removals: Sequence[tuple[scheduling.FilterResult, str]]) -> str:
    """That of the filter that removed most."""
    if not decision.hosts_considered:
        return NO_HOSTS
    remedies = sorted(((result.removed, remedy) for result, remedy in removals if remedy), key=lambda each: -each[0])
    return remedies[0][1] if remedies else ANYTHING
