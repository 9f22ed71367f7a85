"""Filter and weigh: from a request and the table of hosts to the hosts to try, best first, and why. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cirra.placement.v1 import scheduling_pb2 as scheduling
from placement.hosts.table import HostTable
from placement.scheduling.filters.base import Filter, Mask, all_of
from placement.scheduling.filters.capabilities import wanted_virt_type
from placement.scheduling.filters.state import ComputeUp
from placement.scheduling.refusal import NoValidHost
from placement.scheduling.weighers import Scores, Weighed, Weigher

FILTERS = "cirra.placement.filters"
WEIGHERS = "cirra.placement.weighers"
BEST = 3
# Scores that are no further apart are as good as equal: less than any weigher's whole weight.
ALIKE = 0.5
SHOWN_SCORES = 5
# How many hosts a choice has at most: who finds all of them full chooses again.
TRIED = 8
_KEPT_MASKS = 128
_LINES = 64


@dataclass(frozen=True, slots=True)
class Choice:
    """Hosts to try, in this order; `decision` is what is recorded with the claim."""

    hosts: tuple[str, ...]
    decision: scheduling.Decision


@dataclass(frozen=True, slots=True)
class _Passed:
    """What filters have left, how many that is, and how many each removed."""

    keep: Mask
    left: int
    results: tuple[scheduling.FilterResult, ...]


class Scheduler:
    """Applies every filter, those first that look at no claims, then every weigher with its multiplier."""

    def __init__(
        self,
        filters: Sequence[Filter],
        weighers: Sequence[Weigher],
        *,
        multipliers: Mapping[str, float] | None = None,
        random: Random | None = None,
    ) -> None:
        self._all = tuple(filters)
        self._lasting = tuple(each for each in filters if getattr(each, "ignores_claims", False))
        self._passing = tuple(each for each in filters if not getattr(each, "ignores_claims", False))
        told = multipliers or {}
        self._weighers = tuple((each, told.get(each.name, getattr(each, "multiplier", 1.0))) for each in weighers)
        self._random = random or Random()
        # What the lasting filters left of one revision of one table, by request.
        self._masks: OrderedDict[bytes, _Passed] = OrderedDict()
        self._masks_of: tuple[HostTable | None, int] = (None, 0)

    def with_filter(self, extra: Filter) -> Scheduler:
        """One that decides as this does, and by one filter more."""
        other = Scheduler((*self._all, extra), (), random=self._random)
        other._weighers = self._weighers
        return other

    def would_take(self, hosts: HostTable, request: scheduling.ClaimRequest, rows: Sequence[int]) -> list[str]:
        """Those of the hosts that nothing stands against but that they are not heard; names."""
        others = [each for each in self._all if each.name != ComputeUp.name]
        keep = _filtered(others, hosts, request, all_of(hosts)).keep
        return [hosts.names[row] for row in rows if keep[row]]

    def choose(self, hosts: HostTable, request: scheduling.ClaimRequest, *, shuffled: bool = True) -> Choice:
        """The hosts that can take the request, `TRIED` at most, best first.

        Shuffled, at random among the best few that are about as good as the best, so that schedulers that decide at
        the same time don't all run into one host. Raises `NoValidHost`.
        """
        lasting = self._lasting_mask(hosts, request)
        passed = _filtered(self._passing, hosts, request, lasting.keep)
        decision = scheduling.Decision(hosts_considered=len(hosts), filters=(*lasting.results, *passed.results))
        if passed.left == 0:
            raise NoValidHost(decision, self._removals(hosts, request, decision))
        rows = None if passed.left == len(hosts) else np.flatnonzero(passed.keep)
        parts = self._weighed(hosts, request, rows)
        total = np.zeros(passed.left)
        for part in parts.values():
            part.add_to(total)
        order = _best(total, TRIED)
        names = [hosts.names[place] for place in (order if rows is None else rows[order]).tolist()]
        scores = _show(decision, names, {by: part.at(order).tolist() for by, part in parts.items()})
        if shuffled:
            alike = sum(score >= scores[0] - ALIKE for score in scores[:BEST])
            good, rest = names[:alike], names[alike:]
            self._random.shuffle(good)
            names = good + rest
        return Choice(tuple(names), decision)

    def _lasting_mask(self, hosts: HostTable, request: scheduling.ClaimRequest) -> _Passed:
        """Of the filters that look at no claims: worked out once for equal requests, until a host changes."""
        table, revision = self._masks_of
        if table is not hosts or revision != hosts.revision:
            self._masks.clear()
            self._masks_of = (hosts, hosts.revision)
        key = _kind_of(request)
        known = self._masks.get(key)
        if known is None:
            known = self._masks[key] = _filtered(self._lasting, hosts, request, all_of(hosts))
            if len(self._masks) > _KEPT_MASKS:
                self._masks.popitem(last=False)
        return known

    def _weighed(
        self, hosts: HostTable, request: scheduling.ClaimRequest, rows: NDArray[np.intp] | None
    ) -> dict[str, Weighed]:
        """Each weigher's part of the score of the rows that are left; without `rows`, of all."""
        parts = {}
        for weigher, multiplier in self._weighers:
            if _applies(weigher, request):
                scores = weigher.score(hosts, request)
                parts[weigher.name] = Weighed.of(scores if rows is None else scores[rows], multiplier)
        return parts

    def _removals(
        self, hosts: HostTable, request: scheduling.ClaimRequest, decision: scheduling.Decision
    ) -> list[tuple[scheduling.FilterResult, str]]:
        """The filters that removed hosts, in the decision with a word on what those have; and the remedy of each."""
        found, keep = [], all_of(hosts)
        for each, result in zip((*self._lasting, *self._passing), decision.filters, strict=True):
            left = keep & each.mask(hosts, request) if _applies(each, request) else keep
            if result.removed:
                describe = getattr(each, "describe", None)
                result.detail = describe(hosts, request, keep & ~left) if describe else ""
                found.append((result, getattr(each, "remedy", "")))
            keep = left
        return found


def _filtered(filters: Iterable[Filter], hosts: HostTable, request: scheduling.ClaimRequest, keep: Mask) -> _Passed:
    """One filter after the other, each on what the ones before have left."""
    results = []
    left = there = int(np.count_nonzero(keep))
    for each in filters:
        if _applies(each, request):
            keep = keep & each.mask(hosts, request)
            left = int(np.count_nonzero(keep))
        results.append(scheduling.FilterResult(filter=each.name, removed=there - left, hosts_in=there, hosts_out=left))
        there = left
    return _Passed(keep, left, tuple(results))


def _applies(each: Filter | Weigher, request: scheduling.ClaimRequest) -> bool:
    """Whether it is anything to this request."""
    applies: Callable[[scheduling.ClaimRequest], bool] | None = getattr(each, "applies", None)
    return applies is None or applies(request)


def _kind_of(request: scheduling.ClaimRequest) -> bytes:
    """Equal for requests that lasting filters can't tell apart."""
    kind = scheduling.ClaimRequest()
    kind.CopyFrom(request)
    for name in ("claim_id", "attempt", "resources", "group", "min_position"):
        kind.ClearField(name)
    return kind.SerializeToString(deterministic=True)


def _show(decision: scheduling.Decision, names: Sequence[str], parts: Mapping[str, Sequence[float]]) -> list[float]:
    """The score of each host, which is the sum of its parts; those of the first go into the decision."""
    scores = [sum(of_host) for of_host in zip(*parts.values(), strict=True)] if parts else [0.0] * len(names)
    for place, name in enumerate(names[:SHOWN_SCORES]):
        weights = decision.scores.add(host=name, score=round(scores[place], 4)).weights
        for by, values in parts.items():
            weights[by] = round(values[place], 4)
    return scores


def _best(total: Scores, count: int) -> NDArray[np.intp]:
    """The places of the highest scores, best first, without sorting all of them: the best ones are in the columns
    whose highest is highest, of the scores laid out in `_LINES` lines."""
    if total.size <= 4 * _LINES:
        return np.argsort(-total, kind="stable")[:count]
    width = total.size // _LINES
    highest = total[: width * _LINES].reshape(_LINES, width).max(axis=0)
    columns = np.argsort(-highest, kind="stable")[:count]
    inside = (columns[:, None] + np.arange(0, width * _LINES, width)).ravel()
    inside.sort()
    places = np.concatenate([inside, np.arange(width * _LINES, total.size)])
    return places[np.argsort(-total[places], kind="stable")[:count]]


def virt_type_of(hosts: HostTable, host: str, request: scheduling.ClaimRequest) -> str:
    """How the guest will run there: as asked for, else the best that the host has."""
    row = hosts.find(host)
    assert row is not None
    return wanted_virt_type(request) or hosts.inventories[row].virt_types[0]


def installed(group: str, *, without: Iterable[str] = ()) -> list[Any]:
    """The filters or weighers of all installed packages, in the order of their entry points' names."""
    left_out = frozenset(without)
    makers: list[tuple[str, Callable[[], Any]]] = [
        (each.name, each.load()) for each in entry_points(group=group) if each.name not in left_out
    ]
    return [make() for _, make in sorted(makers, key=lambda maker: maker[0])]
