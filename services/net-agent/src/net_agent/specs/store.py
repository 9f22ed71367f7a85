"""Specifications on disk, in `specs.db`: whole or not at all, whatever ends the process or the machine.

SQLite with a write-ahead log that is synced at each commit (https://sqlite.org/wal.html, `synchronous=FULL`): a change
costs what it changes, and those who wait at the same time share one commit.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path

from core.agent.hand import Hand
from core.errors import FailedPrecondition, Unavailable
from net_agent.model import Key
from net_agent.specs.batch import Batch

_FILE = "specs.db"
_FORMAT = 1
_SCHEMA = f"""
    BEGIN IMMEDIATE;
    CREATE TABLE specs (
        kind TEXT NOT NULL, object_id TEXT NOT NULL, spec BLOB NOT NULL, PRIMARY KEY (kind, object_id)
    ) STRICT, WITHOUT ROWID;
    PRAGMA user_version = {_FORMAT};
    COMMIT;
"""


class SpecStore:
    """Rows of (kind, object id) → bytes. The agent is the only writer of its folder.

    synced: False for what need not outlive the machine.
    """

    def __init__(self, folder: Path, *, synced: bool = True) -> None:
        self._path = folder / _FILE
        self._synced = synced
        self._connection: sqlite3.Connection | None = None
        # Whoever asks first opens it, and that may be two at once.
        self._opening = threading.Lock()
        self._hand = Hand("specs")
        self._batch: Batch[tuple[Key, bytes | None], None] = Batch(self._commit_soon)

    def load(self) -> list[tuple[Key, bytes]]:
        """Every row; none as long as nothing was written. Blocks. Raises FailedPrecondition when it is damaged."""
        if not self._path.exists():
            return []
        try:
            rows = self._open().execute("SELECT kind, object_id, spec FROM specs ORDER BY kind, object_id")
            return [((kind, object_id), spec) for kind, object_id, spec in rows]
        except sqlite3.Error as error:
            raise FailedPrecondition(
                f"{self._path} is damaged: {error}",
                reason="SPECS_DAMAGED",
                remedy="remove it; the conductor tells this host everything again",
            ) from error

    async def write(self, changes: Mapping[Key, bytes | None]) -> None:
        """Returns once they are on disk; None removes a row. One writer at a time for a key. Raises Unavailable."""
        await self._batch.ask(changes.items())

    async def delete(self) -> None:
        """There is no record any more."""
        await self._batch.idle()
        await self._hand.do(self._delete)

    async def close(self) -> None:
        await self._batch.idle()
        if self._connection is not None:
            self._connection.close()

    def _delete(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        for companion in ("", "-wal", "-shm"):
            Path(f"{self._path}{companion}").unlink(missing_ok=True)

    async def _commit_soon(self, rows: tuple[tuple[Key, bytes | None], ...]) -> None:
        await self._hand.do(self._commit, dict(rows))

    def _commit(self, changes: Mapping[Key, bytes | None]) -> None:
        kept = [(*key, spec) for key, spec in changes.items() if spec is not None]
        gone = [key for key, spec in changes.items() if spec is None]
        if not kept and not self._path.exists():
            return
        try:
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany("INSERT OR REPLACE INTO specs VALUES (?, ?, ?)", kept)
                connection.executemany("DELETE FROM specs WHERE kind = ? AND object_id = ?", gone)
                connection.execute("COMMIT")
            except BaseException:
                # Some errors (a full disk) have rolled it back already.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except (sqlite3.Error, OSError) as error:
            raise Unavailable(
                f"{self._path} can't be written: {error}",
                reason="SPECS_NOT_SAVED",
                remedy="free space on its file system; nothing is wired on this host without that record",
            ) from error

    def _open(self) -> sqlite3.Connection:
        with self._opening:
            if self._connection is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                # Read at first by whoever asks, then by the hand.
                connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(f"PRAGMA synchronous = {'FULL' if self._synced else 'OFF'}")
                [(found,)] = connection.execute("PRAGMA user_version")
                if found == 0:
                    connection.executescript(_SCHEMA)
                elif found != _FORMAT:
                    connection.close()
                    raise sqlite3.DatabaseError(f"format {found} is not {_FORMAT}")
                self._connection = connection
            return self._connection
