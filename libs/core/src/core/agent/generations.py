"""What this host was last told about each object: the guard against messages that come late or twice.

`generations.json` holds, for every object, the highest generation acted on and whether that was its removal (a
tombstone). The epoch of the log stands above: a wish of a later epoch overrides every number of an earlier one, and one
of an earlier epoch is refused. It is written before the effect, with fsync and rename, so that after a crash no older
wish is taken for news. The current boot is noted as well, once its desired state is known.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cirra.agent.v1.desired_pb2 import DesiredObject
from core.agent.specs import spec_digest
from core.clock import boot_time_s
from core.errors import FailedPrecondition
from core.pki.files import ensure_private_folder, write_private

_FILE = "generations.json"
_FORMAT = 2
_READABLE = (1, 2)  # the first had no epochs
# A command lives for an hour on the bus; a tombstone outlives all of them.
TOMBSTONE_KEPT_S = 24 * 3600.0

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Record:
    """`established`: it has been made on this host, and not been removed since.

    `since`: seconds since the boot of that time. What is left of it to now is never more than what has passed, also
    after another boot (the machine was down as well): no clock that can be set decides when a tombstone is forgotten.
    `spec`: the digest of what it was made after (`core.agent.specs.spec_digest`).
    """

    generation: int
    tombstone: bool
    established: bool
    since: float
    epoch: int = 0
    spec: str = ""

    @property
    def wish(self) -> tuple[int, int]:
        """What orders wishes for one object."""
        return self.epoch, self.generation


def key_of(desired: DesiredObject) -> Key:
    return desired.kind, desired.object_id


def wish_of(desired: DesiredObject) -> tuple[int, int]:
    """As `Record.wish`."""
    return desired.epoch, desired.generation


class GenerationStore:
    """The records of one agent, in memory and in *folder*. Methods about one object are called one at a time."""

    def __init__(self, folder: Path, *, now: Callable[[], float] = boot_time_s) -> None:
        """Reads what is there. Raises FailedPrecondition when that can't be read: guessing would undo the guard."""
        self._path = folder / _FILE
        self._now = now
        self._records: dict[Key, Record] = {}
        self._floors: dict[Key, tuple[int, int]] = {}
        # The last epoch that this host has acted in, the one that it was last told, and whether to act in that.
        self._epoch = self._told = 0
        self._acts = True
        self._has_heard = False
        self._fresh_boot_id = ""
        self._version = self._saved = 0
        self._writing = asyncio.Lock()
        ensure_private_folder(folder)
        _remove_unfinished(folder)
        if self._path.exists():
            self._load()

    def __len__(self) -> int:
        return len(self._records)

    @property
    def epoch(self) -> int:
        """The last epoch in which this host was told to act; 0 before the first."""
        return self._epoch

    @property
    def told_epoch(self) -> int:
        """The log's epoch, as this host was last told."""
        return self._told

    @property
    def is_observing(self) -> bool:
        """The log was restored, and nobody has accepted yet what differs here: nothing may be changed."""
        return not self._acts

    @property
    def may_tidy(self) -> bool:
        """Whether to remove what is not used any more: only by the word of a conductor that this process has heard."""
        return self._has_heard and not self.is_observing

    async def hear(self, epoch: int, accepted_epoch: int) -> None:
        """The log is in `epoch`, and this host may act up to `accepted_epoch`.

        An epoch before that in which this host has acted is the log's of even longer ago: nothing is done by it.
        """
        acts = accepted_epoch == epoch >= self._epoch
        heard = (epoch if acts else self._epoch, epoch, acts)
        self._has_heard = True
        if heard != (self._epoch, self._told, self._acts):
            self._epoch, self._told, self._acts = heard
            await self._save()

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
        return record is not None and record.epoch == self._epoch

    def is_established(self, kind: str, object_id: str) -> bool:
        record = self._records.get((kind, object_id))
        return record is not None and record.established

    def accepts(self, desired: DesiredObject) -> bool:
        """Whether to act on it: not older than what was acted on or learnt; a removal wins a tie against a wish."""
        record, wish = self._records.get(key_of(desired)), wish_of(desired)
        if self.is_observing or desired.epoch < self._epoch or wish < self._floors.get(key_of(desired), (0, 0)):
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
        if is_noted and self._saved == self._version:
            return
        established = before is not None and (before.established or _was_removed_before(before, desired))
        self._records[key] = Record(
            desired.generation, desired.absent, established, self._now(), desired.epoch, spec_digest(desired)
        )
        await self._save()

    async def settle(self, desired: DesiredObject) -> None:
        """Note that it was made so: it is established, or gone."""
        before = self._records[key_of(desired)]
        if before.established == desired.absent:
            self._records[key_of(desired)] = replace(before, established=not desired.absent)
            await self._save()

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
        if done:
            await self._save()
        return done

    def had_fresh_state_in(self, boot_id: str) -> bool:
        """Whether the conductor was heard since the host booted."""
        return self._fresh_boot_id == boot_id

    async def note_fresh_state(self, boot_id: str) -> None:
        if self._fresh_boot_id != boot_id:
            self._fresh_boot_id = boot_id
            await self._save()

    async def _save(self) -> None:
        """Returns once the present state is on disk; those who wait together share one write."""
        self._version += 1
        wanted = self._version
        async with self._writing:
            if self._saved >= wanted:
                return
            writes = self._version
            await asyncio.to_thread(write_private, self._path, self._dump())
            self._saved = writes

    def _dump(self) -> bytes:
        objects = {
            f"{kind}/{object_id}": {
                "generation": record.generation,
                "tombstone": record.tombstone,
                "established": record.established,
                "since": record.since,
                "epoch": record.epoch,
                "spec": record.spec,
            }
            for (kind, object_id), record in self._records.items()
        }
        content = {
            "format": _FORMAT,
            "boot_id": self._fresh_boot_id,
            "epoch": self._epoch,
            "told_epoch": self._told,
            "observe_only": not self._acts,
            "objects": objects,
        }
        return json.dumps(content, indent=1).encode()

    def _load(self) -> None:
        try:
            content: dict[str, Any] = json.loads(self._path.read_bytes())
            if content["format"] not in _READABLE:
                raise ValueError(f"format {content['format']} is none of {_READABLE}")
            self._fresh_boot_id = content["boot_id"]
            self._epoch, self._told = content.get("epoch", 0), content.get("told_epoch", 0)
            self._acts = not content.get("observe_only", False)
            for name, entry in content["objects"].items():
                kind, _, object_id = name.partition("/")
                self._records[kind, object_id] = Record(**entry)
        except (ValueError, KeyError, TypeError) as error:
            raise FailedPrecondition(
                f"{self._path} is damaged: {error}",
                reason="GENERATIONS_DAMAGED",
                remedy="restore the file; or remove it once no command for this host is older than an hour",
            ) from error


def _was_removed_before(before: Record, desired: DesiredObject) -> bool:
    """It was made and removed here, and a log of before that wants it: that it is missing is news."""
    return before.tombstone and before.epoch < desired.epoch and not desired.absent


def _remove_unfinished(folder: Path) -> None:
    """What a crash between write and rename left; the agent is this folder's only writer."""
    for leftover in folder.glob(f".{_FILE}.*"):
        leftover.unlink()
