"""A host's records on disk, in `generations.db`: whole or not at all, whatever ends the process or the machine.

SQLite with a write-ahead log that is synced at each commit (https://sqlite.org/wal.html, `synchronous=FULL`): a change
costs what it changes, not what is there, and those who wait at the same time share one commit.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import structlog

from core.agent import generations_json
from core.agent.hand import Hand
from core.agent.records import HostRecord, Key, Record
from core.errors import FailedPrecondition, Unavailable
from core.pki.files import PRIVATE_MODE, ensure_private_folder, sync_folder

_log = structlog.get_logger(__name__)
_FILE = "generations.db"
_DRAFT = f".{_FILE}.new"
# What SQLite puts beside a database: with another's, a new one would be taken for damaged, or for that other.
_COMPANIONS = ("-wal", "-shm", "-journal")
_FORMAT = 3  # generations.json had 1 and 2
_WRITE_WITHIN_S = 0.5
_SCHEMA = f"""
    CREATE TABLE host (
        fresh_boot_id TEXT NOT NULL, epoch INTEGER NOT NULL, told_epoch INTEGER NOT NULL, acts INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE objects (
        kind TEXT NOT NULL, object_id TEXT NOT NULL, generation INTEGER NOT NULL, tombstone INTEGER NOT NULL,
        established INTEGER NOT NULL, since REAL NOT NULL, epoch INTEGER NOT NULL, spec TEXT NOT NULL,
        PRIMARY KEY (kind, object_id)
    ) STRICT, WITHOUT ROWID;
    PRAGMA user_version = {_FORMAT};
"""

Objects = Mapping[Key, Record | None]


class Ledger:
    """The records of one agent, which is their only writer. None for a record: nothing is noted any more."""

    def __init__(self, folder: Path) -> None:
        """Opens what is there, or begins. Raises FailedPrecondition when it can't be read: guessing would undo the
        guard that it is."""
        self._path = folder / _FILE
        ensure_private_folder(folder)
        with self._damage_told():
            earlier = generations_json.load(folder)
        if not self._path.exists():
            with self._refusal_told():
                _create(self._path, *earlier)
        generations_json.remove(folder)
        with self._damage_told():
            self._connection = _open(self._path)
            self.host, self.records = _read(self._connection)
        self._objects: dict[Key, Record | None] = {}
        self._host: HostRecord | None = None
        self._put = self._saved = 0
        self._flight: asyncio.Future[None] | None = None
        self._in_flight: Objects = {}
        self._timer: asyncio.TimerHandle | None = None
        self._hand = Hand("records")

    def put(self, key: Key, record: Record | None) -> None:
        """To be written: with the next `flush`, or half a second from now. Till then it is lost with the process."""
        self._objects[key] = record
        self._noted()

    def put_host(self, host: HostRecord) -> None:
        """As `put`."""
        self._host = host
        self._noted()

    def has_saved(self, key: Key) -> bool:
        """Whether what was put for it is on disk."""
        return key not in self._objects and key not in self._in_flight

    async def flush(self) -> None:
        """Returns once all that was put until now is on disk. Raises Unavailable: it is not, and will be tried again
        with the next one."""
        wanted = self._put
        while self._saved < wanted:
            flight, is_mine = self._flight, False
            if flight is None:
                flight, is_mine = self._take_off(), True
            try:
                # A thread can't be cancelled: the next commit must not begin before this one has ended.
                await asyncio.shield(flight)
            except Unavailable:
                if is_mine:
                    raise

    async def close(self) -> None:
        """Writes what is left. What can't be written is logged: it ends as by a crash."""
        try:
            await self.flush()
        except Unavailable as error:
            _log.error("records not saved", error=error.message)
        if self._timer is not None:
            self._timer.cancel()
        await self._hand.do(self._connection.close)

    def _noted(self) -> None:
        self._put += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_WRITE_WITHIN_S, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._flight is None and self._saved < self._put:
            self._take_off()

    def _take_off(self) -> asyncio.Future[None]:
        """Begin to write what was put."""
        objects, self._objects = self._objects, {}
        host, self._host = self._host, None
        # Done in the same moment as it is no longer under way, which the hand's own future is not.
        flight = self._flight = asyncio.get_running_loop().create_future()
        self._in_flight = objects
        commit = self._hand.do(self._commit, objects, host)
        commit.add_done_callback(partial(self._landed, objects, host, self._put, flight))
        return flight

    def _landed(
        self,
        objects: dict[Key, Record | None],
        host: HostRecord | None,
        put: int,
        flight: asyncio.Future[None],
        commit: asyncio.Future[None],
    ) -> None:
        self._flight, self._in_flight = None, {}
        error = commit.exception()
        if error is None:
            self._saved = put
            flight.set_result(None)
        else:
            flight.set_exception(error)
            flight.exception()  # somebody has looked, also when nobody waits
            # What was put meanwhile is newer.
            self._objects = objects | self._objects
            self._host = self._host or host
            _log.error("records not saved", error=str(error))

    def _commit(self, objects: Objects, host: HostRecord | None) -> None:
        with self._refusal_told(), _transaction(self._connection):
            _write(self._connection, objects, host)

    @contextmanager
    def _refusal_told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise Unavailable(
                f"{self._path} can't be written: {error}",
                reason="GENERATIONS_NOT_SAVED",
                remedy="free space on its file system; nothing is done on this host without that record",
            ) from error

    @contextmanager
    def _damage_told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
            raise FailedPrecondition(
                f"the records in {self._path.parent} are damaged: {error}",
                reason="GENERATIONS_DAMAGED",
                remedy="restore the folder; or remove it once no command for this host is older than an hour",
            ) from error


def _create(path: Path, host: HostRecord, records: Objects) -> None:
    """A whole one or none: an empty file would be an empty database."""
    draft = path.with_name(_DRAFT)
    for leftover in [draft, *(Path(f"{file}{companion}") for file in (draft, path) for companion in _COMPANIONS)]:
        leftover.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL, PRIVATE_MODE))
    with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
        connection.executescript(_SCHEMA)
        with _transaction(connection):
            _write(connection, records, host)
    draft.rename(path)
    sync_folder(path.parent)


def _open(path: Path) -> sqlite3.Connection:
    """Raises sqlite3.Error, ValueError for what is not ours or not whole."""
    # Read here, then written by another thread.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    [(found,)] = connection.execute("PRAGMA user_version")
    if found != _FORMAT:
        raise ValueError(f"format {found} is not {_FORMAT}")
    [(verdict,)] = connection.execute("PRAGMA quick_check(1)")
    if verdict != "ok":
        raise ValueError(verdict)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _read(connection: sqlite3.Connection) -> tuple[HostRecord, dict[Key, Record]]:
    [(boot_id, epoch, told_epoch, acts)] = connection.execute("SELECT fresh_boot_id, epoch, told_epoch, acts FROM host")
    rows = connection.execute(
        "SELECT kind, object_id, generation, tombstone, established, since, epoch, spec FROM objects"
    )
    records = {
        (kind, object_id): Record(generation, bool(tombstone), bool(established), since, its_epoch, spec)
        for kind, object_id, generation, tombstone, established, since, its_epoch, spec in rows
    }
    return HostRecord(boot_id, epoch, told_epoch, bool(acts)), records


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # Some errors (a full disk) have rolled it back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _write(connection: sqlite3.Connection, objects: Objects, host: HostRecord | None) -> None:
    if host is not None:
        connection.execute("DELETE FROM host")
        connection.execute(
            "INSERT INTO host VALUES (?, ?, ?, ?)", (host.fresh_boot_id, host.epoch, host.told_epoch, host.acts)
        )
    connection.executemany(
        "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (*key, it.generation, it.tombstone, it.established, it.since, it.epoch, it.spec)
            for key, it in objects.items()
            if it is not None
        ],
    )
    gone = [key for key, it in objects.items() if it is None]
    if gone:
        connection.executemany("DELETE FROM objects WHERE kind = ? AND object_id = ?", gone)
