"""What this host was last told about each object: the guard against messages that come late or twice.

For every object the highest generation acted on is kept, and whether that was its removal (a tombstone). The epoch of
the log stands above: a wish of a later epoch overrides every number of an earlier one, and one of an earlier epoch is
refused. It is on disk (`core.agent.ledger`) before the effect, so that after a crash no older wish is taken for news.
The current boot is noted as well, once its desired state is known.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from cirra.agent.v1.desired_pb2 import DesiredObject
from core.agent.ledger import Ledger
from core.agent.records import HostRecord, Key, Record, key_of, wish_of
from core.agent.specs import spec_digest
from core.clock import boot_time_s

# A command lives for an hour on the bus; a tombstone outlives all of them.
TOMBSTONE_KEPT_S = 24 * 3600.0


class GenerationStore:
    """The records of one agent, in memory and in *folder*. Methods about one object are called one at a time."""

    def __init__(self, folder: Path, *, now: Callable[[], float] = boot_time_s) -> None:
        """Reads what is there. Raises FailedPrecondition when that can't be read: guessing would undo the guard."""
        self._ledger = Ledger(folder)
        self._now = now
        self._records = self._ledger.records
        self._host = self._ledger.host
        self._floors: dict[Key, tuple[int, int]] = {}
        self._has_heard = False

    async def close(self) -> None:
        """What was noted until now is on disk."""
        await self._ledger.close()

    def __len__(self) -> int:
        return len(self._records)

    @property
    def epoch(self) -> int:
        """The last epoch in which this host was told to act; 0 before the first."""
        return self._host.epoch

    @property
    def told_epoch(self) -> int:
        """The log's epoch, as this host was last told."""
        return self._host.told_epoch

    @property
    def is_observing(self) -> bool:
        """The log was restored, and nobody has accepted yet what differs here: nothing may be changed."""
        return not self._host.acts

    @property
    def may_tidy(self) -> bool:
        """Whether to remove what is not used any more: only by the word of a conductor that this process has heard."""
        return self._has_heard and not self.is_observing

    async def hear(self, epoch: int, accepted_epoch: int) -> None:
        """The log is in `epoch`, and this host may act up to `accepted_epoch`.

        An epoch before that in which this host has acted is the log's of even longer ago: nothing is done by it.
        """
        acts = accepted_epoch == epoch >= self.epoch
        self._has_heard = True
        await self._note_host(replace(self._host, epoch=epoch if acts else self.epoch, told_epoch=epoch, acts=acts))

    def noted(self, kind: str) -> set[str]:
        """All objects of a kind of which something is noted."""
        return {object_id for each, object_id in self._records if each == kind}

    def find(self, kind: str, object_id: str) -> Record | None:
        """What is noted about an object."""
        return self._records.get((kind, object_id))

    def epoch_of(self, kind: str, object_id: str) -> int:
        """The epoch of the wish last acted on; 0 when there was none."""
        record = self._records.get((kind, object_id))
        return record.epoch if record else 0

    def generation(self, kind: str, object_id: str) -> int:
        """The generation last acted on; 0 for an object that this host was never told about."""
        record = self._records.get((kind, object_id))
        return record.generation if record else 0

    def knows(self, kind: str, object_id: str) -> bool:
        """Whether the cloud has named the object here, in the epoch that this host acts in."""
        record = self._records.get((kind, object_id))
        return record is not None and record.epoch == self.epoch

    def is_tombstone(self, kind: str, object_id: str) -> bool:
        """Whether its removal was the last that was acted on."""
        record = self._records.get((kind, object_id))
        return record is not None and record.tombstone

    def is_established(self, kind: str, object_id: str) -> bool:
        """Whether it was made here and not removed since: if it is missing, it was lost."""
        record = self._records.get((kind, object_id))
        return record is not None and record.established

    def accepts(self, desired: DesiredObject) -> bool:
        """Whether to act on it: not older than what was acted on or learnt; a removal wins a tie against a wish."""
        record, wish = self._records.get(key_of(desired)), wish_of(desired)
        if self.is_observing or desired.epoch < self.epoch or wish < self._floors.get(key_of(desired), (0, 0)):
            return False
        if record is None or wish > record.wish:
            return True
        return wish == record.wish and (desired.absent or not record.tombstone)

    def learn(self, desired: DesiredObject) -> None:
        """The conductor wants this now: from here on, what is older is refused, even before this is acted on."""
        key = key_of(desired)
        self._floors[key] = max(wish_of(desired), self._floors.get(key, (0, 0)))

    async def record(self, desired: DesiredObject) -> None:
        """Note, durably, that *desired* (which `accepts` let pass) is being acted on."""
        key = key_of(desired)
        before = self._records.get(key)
        is_noted = before is not None and (before.wish, before.tombstone) == (wish_of(desired), desired.absent)
        # A write that failed (a full disk) is made up for.
        if is_noted and self._ledger.has_saved(key):
            return
        established = before is not None and (before.established or _was_removed_before(before, desired))
        self._note(
            key,
            Record(desired.generation, desired.absent, established, self._now(), desired.epoch, spec_digest(desired)),
        )
        await self._ledger.flush()

    async def establish(self, desired: DesiredObject) -> None:
        """Note, durably, that what it holds its data in is here: from now on that is never made anew. *desired* is
        recorded."""
        key = key_of(desired)
        self._note(key, replace(self._records[key], established=True))
        await self._ledger.flush()

    def settle(self, desired: DesiredObject) -> None:
        """Note that it was made so: it is established, or gone. On disk soon: what is lost of it is observed again."""
        key = key_of(desired)
        before = self._records[key]
        if before.established == desired.absent:
            self._note(key, replace(before, established=not desired.absent))

    async def prune(self, wanted: Collection[Key]) -> list[Key]:
        """Forget tombstones that the conductor no longer lists (it has the confirmation) and that are old; which."""
        self._floors = {key: floor for key, floor in self._floors.items() if key in wanted}
        oldest = self._now() - TOMBSTONE_KEPT_S
        done = [
            key
            for key, record in self._records.items()
            if record.tombstone and key not in wanted and record.since < oldest
        ]
        for key in done:
            del self._records[key]
            self._ledger.put(key, None)
        await self._ledger.flush()
        return done

    def had_fresh_state_in(self, boot_id: str) -> bool:
        """Whether the conductor was heard since the host booted."""
        return self._host.fresh_boot_id == boot_id

    async def note_fresh_state(self, boot_id: str) -> None:
        await self._note_host(replace(self._host, fresh_boot_id=boot_id))

    def _note(self, key: Key, record: Record) -> None:
        self._records[key] = record
        self._ledger.put(key, record)

    async def _note_host(self, host: HostRecord) -> None:
        if host != self._host:
            self._host = host
            self._ledger.put_host(host)
            await self._ledger.flush()


def _was_removed_before(before: Record, desired: DesiredObject) -> bool:
    """It was made and removed here, and a log of before that wants it: that it is missing is news."""
    return before.tombstone and before.epoch < desired.epoch and not desired.absent
