"""Declares hosts suspected, down and up. One replica at a time, under a lease; all replicas listen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from core.context import acting
from core.errors import NotFound
from core.eventlog.connections import is_transient
from core.eventlog.errors import LeaseLost, LogUnavailable, UniqueViolation
from core.eventlog.leases import Lease, Leases
from core.ids import host_aggregate_id
from core.repository import Repository, again_on_conflict
from placement.hosts.host import Health, Host
from placement.hosts.live_view import LiveView
from placement.liveness.outage import Outages
from placement.liveness.roll import Roll
from placement.liveness.term import DETECTOR_ID, SCOPE, DetectorTerm
from placement.liveness.tracker import NEEDED_AGENTS, Tracker

log = structlog.get_logger(__name__)

LEASE = "placement/detector"
LEASE_TTL = timedelta(seconds=5)
_AT_ONCE = 32
# In one pass. The others are next: who has fallen must not wait until thousands have risen.
_RISE_PER_PASS = 500
# Hosts that are UP are looked at in turns: so many in a pass, but each at least in every fourth. A pass is a twelfth of
# the window, and silence counts from half of it on: that is early enough to suspect it before it is down.
_LOOKED_AT_PER_PASS = 2500
_TURNS = 4
_VIEW_PATIENCE_S = 5.0
_PAUSE_S = 1.0
_PAUSE_FOR_NEW_S = 0.5


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a host's agents make it. `in_doubt`: the NATS servers without which it might be heard."""

    health: Health
    silent_agents: tuple[str, ...] = ()
    boot_ids: Mapping[str, str] = field(default_factory=dict)
    in_doubt: tuple[str, ...] = ()


class Detector:
    """Turns silence into events. Only transitions are events."""

    def __init__(
        self,
        repository: Repository,
        leases: Leases,
        view: LiveView,
        tracker: Tracker,
        outages: Outages,
        roll: Roll,
        *,
        replica: str,
    ) -> None:
        self._repository = repository
        self._leases = leases
        self._view = view
        self._tracker = tracker
        self._outages = outages
        self._roll = roll
        self._replica = replica
        self._term = 0
        self._pass = 0
        self.declares = False
        """Whether this replica is the one that does."""
        self._declared: dict[str, Verdict] = {}
        self._few_at_once = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> None:
        """For ever: waits for the lease, then detects while it holds."""
        while True:
            async with self._leases.hold(LEASE, self._replica, LEASE_TTL) as held:
                try:
                    await held.run(self._detect(held.lease))
                except Exception as error:
                    if not _passes(error):
                        raise
                    log.warning("does not detect any more", replica=self._replica, error=repr(error))
                    await asyncio.sleep(_PAUSE_S)
                finally:
                    self.declares = False

    async def _detect(self, lease: Lease) -> None:
        """Until it is cancelled. Raises UniqueViolation when another has begun its term."""
        self.declares = True
        self._declared.clear()
        self._outages.clear()
        with acting(actor="system/detector"):
            await self._adopt(await self._begin_term())
        await self._roll.call(self._tracker)
        expected: dict[str, None] = {}
        began_at, pause_s = self._tracker.heard_for_s, self._tracker.window_s / 12
        while True:
            for host in set(self._view.table.names) - expected.keys():
                for component in NEEDED_AGENTS:
                    self._tracker.expect(component, host)
                expected[host] = None
            # After a takeover a full window of listening goes by before anybody's silence is held against it.
            settled = self._tracker.heard_for_s - began_at >= self._tracker.window_s
            found = self._verdicts(expected, settled=settled)
            verdicts = _first_of(found)
            with acting(actor="system/detector"):
                await self._declare(verdicts)
            await self._roll.keep(self._tracker, lease, changed=bool(verdicts))
            await self._rest(pause_s if len(verdicts) == len(found) else 0.0, expected)

    async def _rest(self, pause_s: float, expected: Mapping[str, None]) -> None:
        """Between two passes. A host that is new is looked at sooner: it can take guests as soon as it is heard."""
        clock = asyncio.get_running_loop().time
        ends_at = clock() + pause_s
        await asyncio.sleep(min(pause_s, _PAUSE_FOR_NEW_S))
        while (  # noqa: ASYNC110 — it is waited for a time, or for what two others know
            clock() < ends_at and len(self._declared) >= len(expected) == len(self._view.table.names)
        ):
            await asyncio.sleep(min(ends_at - clock(), _PAUSE_FOR_NEW_S))

    async def _begin_term(self) -> int:
        """The position from which on nobody else declares."""

        async def once() -> tuple[int, int]:
            detector = await self._repository.find(DetectorTerm, DETECTOR_ID) or DetectorTerm.new(DETECTOR_ID)
            detector.take_over(self._replica)
            return detector.term, (await self._repository.save(detector)).position

        self._term, position = await again_on_conflict(once)
        log.info("detecting", replica=self._replica, term=self._term)
        return position

    async def _adopt(self, position: int) -> None:
        """What earlier terms have declared, as the view has it at that position; without it, each host is looked up."""
        if await self._view.wait_for(position, _VIEW_PATIENCE_S):
            self._declared = {host: Verdict(Health.UP, boot_ids=boots) for host, boots in self._view.boots.items()}

    def _verdicts(self, hosts: Iterable[str], *, settled: bool) -> dict[str, Verdict]:
        """Those that differ from what was declared, of the hosts whose turn it is."""
        found = {}
        turns = min(_TURNS, len(self._declared) // _LOOKED_AT_PER_PASS + 1)
        self._pass += 1
        for number, host in enumerate(hosts, self._pass):
            declared = self._declared.get(host)
            if (
                declared is not None
                and declared.health is Health.UP
                and (number % turns or self._tracker.is_steady(host, declared.boot_ids))
            ):
                continue
            verdict = self._verdict(host, settled=settled)
            if verdict is not None and not _same(verdict, declared):
                found[host] = verdict
        return found

    def _verdict(self, host: str, *, settled: bool) -> Verdict | None:
        """None while it is not known: then the host stays what it was."""
        tracker, window_s = self._tracker, self._tracker.window_s
        boot_ids = tracker.boot_ids(host)
        quiet = tracker.silent(host, for_s=window_s / 2)
        if settled:
            if lost := tracker.silent(host, for_s=window_s):
                return Verdict(Health.DOWN, tuple(lost))
            if lost := tracker.silent_in_doubt(host, for_s=tracker.patience_in_doubt_s):
                return Verdict(Health.DOWN, tuple(lost), in_doubt=tuple(tracker.nats_servers(host)))
            if boot_ids and quiet:
                return Verdict(Health.SUSPECTED, tuple(quiet))
        if not quiet and boot_ids.keys() >= set(NEEDED_AGENTS):
            return Verdict(Health.UP, boot_ids=boot_ids)
        return None

    async def _declare(self, verdicts: Mapping[str, Verdict]) -> None:
        """Appends the transitions, and holds the evacuation of those that fell with many others."""
        falling = {host for host, verdict in verdicts.items() if verdict.health is Health.DOWN}
        silent = {host for host in verdicts if verdicts[host].health is not Health.UP and self._was_alive(host)}
        suspected = {host for host, verdict in self._declared.items() if verdict.health is Health.SUSPECTED}
        rising = verdicts.keys() - falling - silent
        together = self._outages.together(silent | (suspected - rising)) - rising
        many = bool(falling & together) and self._outages.is_many(len(together), len(self._view.table.names))
        count = len(together) if many else 0
        earlier = {host for host in together - verdicts.keys() if self._is_down(host)} if many else set()
        work = [
            self._append(host, verdict, _hold(verdict, count if host in together else 0), max(1, count))
            for host, verdict in verdicts.items()
        ]
        work += [self._hold_too(host, count) for host in earlier]
        async with _first_error(), asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)

    def _was_alive(self, host: str) -> bool:
        """Not one that is silent since before this term, or was never heard."""
        if host in self._declared:
            return not self._is_down(host)
        if any(self._roll.was_silent(component, host) for component in NEEDED_AGENTS):
            return False
        return bool(self._tracker.boot_ids(host)) or self._roll.knows(NEEDED_AGENTS[0], host)

    def _is_down(self, host: str) -> bool:
        declared = self._declared.get(host)
        return declared is not None and declared.health is Health.DOWN

    async def _append(self, host: str, verdict: Verdict, hold: str, together: int) -> None:
        def decide(it: Host) -> None:
            match verdict.health:
                case Health.UP:
                    it.declare_up(verdict.boot_ids, term=self._term)
                case Health.SUSPECTED:
                    it.suspect(verdict.silent_agents, term=self._term)
                case Health.DOWN:
                    fell = it.health in (Health.UP, Health.SUSPECTED)
                    it.declare_down(verdict.silent_agents, term=self._term)
                    if fell and hold:
                        it.hold_evacuation(hold, together, term=self._term)

        changed = await self._change(host, decide)
        self._declared[host] = verdict
        if verdict.health is Health.UP:
            self._outages.rose(host)
        elif verdict.health is Health.DOWN and changed:
            self._outages.fell(host)
        if changed:
            log.info("host changed", host=host, health=verdict.health.value, silent=verdict.silent_agents, held=hold)

    async def _hold_too(self, host: str, together: int) -> None:
        """It was declared a moment ago, and taken for the only one."""
        await self._change(host, lambda it: it.hold_evacuation(_of_many(together), together, term=self._term))

    async def _change(self, host: str, decide: Callable[[Host], None]) -> bool:
        """Whether anything happened to it."""
        async with self._few_at_once:
            try:
                _, saved = await self._repository.change(Host, host_aggregate_id(host), decide)
            except NotFound:
                return False
        return bool(saved.position)


def _first_of(verdicts: Mapping[str, Verdict]) -> Mapping[str, Verdict]:
    """All that are not UP, and a few that are."""
    rising = [host for host, verdict in verdicts.items() if verdict.health is Health.UP]
    later = set(rising[_RISE_PER_PASS:])
    return {host: verdict for host, verdict in verdicts.items() if host not in later} if later else verdicts


def _same(verdict: Verdict, declared: Verdict | None) -> bool:
    if declared is None or verdict.health is not declared.health:
        return False
    return verdict.health is not Health.UP or verdict.boot_ids == declared.boot_ids


def _hold(verdict: Verdict, together: int) -> str:
    """Why the evacuation of a host with this verdict must wait for a person; empty: it need not."""
    if verdict.health is not Health.DOWN:
        return ""
    if verdict.in_doubt:
        return f"NATS server {', '.join(verdict.in_doubt)} is out of reach, and its hosts with it"
    return _of_many(together) if together else ""


def _of_many(together: int) -> str:
    return f"{together} hosts fell silent together"


@asynccontextmanager
async def _first_error() -> AsyncIterator[None]:
    """Raises the first error of a group: those of one pass have one cause."""
    try:
        yield
    except ExceptionGroup as group:
        raise group.exceptions[0] from group


def _passes(error: Exception) -> bool:
    """Whether another replica declares now, or Postgres is away: it may be this one's turn again later."""
    if isinstance(error, UniqueViolation):
        return error.scope == SCOPE
    return isinstance(error, LeaseLost | LogUnavailable) or is_transient(error)
