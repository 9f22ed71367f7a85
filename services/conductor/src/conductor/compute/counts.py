"""Several instances in one request: as many as were asked for, or as there is room for, or none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from cirra.compute.v1 import compute_pb2 as public
from conductor import quotas
from conductor.fields import Fields
from core.eventlog.errors import LimitExceeded
from core.eventlog.log import EventLog
from core.fields import MAX_TEXT

R = TypeVar("R")

MAX_COUNT = 100
# What fits is read before it is tried: others may have been faster, each time.
_MAX_TRIES = 16


@dataclass(frozen=True, slots=True)
class Counts:
    """At least and at most so many; nova's `min_count` and `max_count`."""

    least: int
    most: int

    def names(self, display_name: str) -> list[str]:
        """Of each in turn; one alone bears the name as given."""
        if self.most == 1:
            return [display_name]
        return [f"{display_name}-{number}" for number in range(1, self.most + 1)]


ONE = Counts(1, 1)


def counts_of(request: public.CreateInstancesRequest) -> Counts:
    """Raises InvalidArgument, also for what can't be had more than once."""
    least = request.min_count or 1
    counts = Counts(least, request.max_count or least)
    fields = Fields()
    fields.between("min_count", counts.least, 1, MAX_COUNT)
    fields.between("max_count", counts.most, 1, MAX_COUNT)
    if 1 <= counts.most < counts.least:
        fields.refuse("min_count", f"{counts.least} is more than max_count, {counts.most}")
    fields.check()
    if counts.most > 1:
        _check_shareable(request.instance, counts)
    return counts


def _check_shareable(wanted: public.Instance, counts: Counts) -> None:
    fields = Fields("instance.")
    if len(counts.names(wanted.display_name)[-1]) > MAX_TEXT:
        fields.refuse("display_name", f"with its number it is too long: give fewer than {MAX_TEXT} characters")
    for index, nic in enumerate(wanted.nics):
        if nic.port:
            fields.refuse(f"nics[{index}].port", "several instances can't share a port: give a network")
        if nic.fixed_ip:
            fields.refuse(f"nics[{index}].fixed_ip", "several instances can't share an address: leave it out")
    fields.check()


async def as_many_as_fit(
    log: EventLog, counts: Counts, needs: Mapping[str, int], make: Callable[[int], Awaitable[R]]
) -> R:
    """Makes so many as the project's quotas allow, in one append. `needs`: resource → what one instance takes of it.

    Raises what `make` raises, and LimitExceeded where not even the least fit: then none is made.
    """
    count = counts.most
    tries = 0
    while True:
        try:
            return await make(count)
        except LimitExceeded as error:
            tries += 1
            resource = quotas.resource_of(error.scope)
            if counts.most == 1 or resource not in needs or tries == _MAX_TRIES:
                raise
            counter = await log.counter(error.scope, error.key)
            if counter.limit is None:
                continue
            fit = max(0, counter.limit - counter.used) // needs[resource]
            if fit < counts.least:
                asked = counts.least * needs[resource]
                raise LimitExceeded(error.scope, error.key, counter.used, counter.limit, asked) from error
            count = min(count, fit)
