"""What is on disk after a crash at any moment, a disk that refuses, and another format."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from core.agent import ledger as ledgers
from core.agent.ledger import Ledger
from core.agent.records import HostRecord, Key, Record
from core.errors import FailedPrecondition, Unavailable

HOST = HostRecord("boot-1", epoch=3, told_epoch=4, acts=False)


def record(generation: int, *, tombstone: bool = False) -> Record:
    return Record(generation, tombstone, established=True, since=generation / 3, epoch=2, spec="0123456789abcdef")


def key(number: int) -> Key:
    return "domain", f"0192d0c5-7f1a-7000-8000-{number:012d}"


def read(folder: Path) -> dict[Key, Record]:
    """What a process that starts now would know."""
    return Ledger(folder).records


async def test_what_was_flushed_is_read_again_as_it_was(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.put_host(HOST)
    ledger.put(key(1), record(7))
    ledger.put(key(2), record(8, tombstone=True))
    ledger.put(key(3), record(1))
    await ledger.flush()
    ledger.put(key(3), None)
    await ledger.flush()
    again = Ledger(tmp_path)
    assert again.host == HOST
    assert again.records == {key(1): record(7), key(2): record(8, tombstone=True)}


async def test_what_nobody_waits_for_is_written_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "_WRITE_WITHIN_S", 0.001)
    ledger = Ledger(tmp_path)
    ledger.put(key(1), record(1))
    async with asyncio.timeout(60):
        while not ledger.has_saved(key(1)):  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.001)
    assert read(tmp_path) == {key(1): record(1)}


async def test_what_is_left_is_written_at_the_end(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.put(key(1), record(1))
    await ledger.close()
    assert read(tmp_path) == {key(1): record(1)}


async def test_those_who_wait_together_share_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[int] = []
    write = ledgers._write

    def counted(connection: sqlite3.Connection, objects: ledgers.Objects, host: HostRecord | None) -> None:
        commits.append(len(objects))
        write(connection, objects, host)

    ledger = Ledger(tmp_path)
    monkeypatch.setattr(ledgers, "_write", counted)

    async def note(number: int) -> None:
        ledger.put(key(number), record(1))
        await ledger.flush()

    await asyncio.gather(*(note(number) for number in range(50)))
    assert len(commits) <= 3
    assert sum(commits) == 50
    assert len(read(tmp_path)) == 50


async def test_who_comes_when_a_commit_has_just_ended_waits_for_the_next(tmp_path: Path) -> None:
    """Whoever is woken in the same turn of the loop: nobody may spin there."""
    ledger = Ledger(tmp_path)

    async def come_and_go(number: int) -> None:
        for turn in range(20):
            ledger.put(key(number), record(turn))
            await ledger.flush()
            await asyncio.to_thread(int)

    async with asyncio.timeout(20):
        await asyncio.gather(*(come_and_go(number) for number in range(30)))
    assert read(tmp_path) == {key(number): record(19) for number in range(30)}


async def test_a_torn_end_loses_what_nobody_was_told_of_and_nothing_else(tmp_path: Path) -> None:
    """The write-ahead log cut at each place where a crash can have cut it."""
    original = tmp_path / "original"
    ledger = Ledger(original)
    log = original / "generations.db-wal"
    told = [0]
    for number in range(4):
        ledger.put(key(number), record(number))
        await ledger.flush()
        told.append(log.stat().st_size)
    found: list[int] = []
    for cut in range(0, told[-1] + 1, 509):  # a prime: at every place of pages and their headers
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(original, copy)
        (copy / "generations.db-shm").unlink()  # is of a process that runs
        os.truncate(copy / log.name, cut)
        records = read(copy)
        assert records == {key(number): record(number) for number in range(len(records))}
        assert len(records) == sum(size <= cut for size in told[1:])
        found.append(len(records))
    assert set(found) >= {0, 1, 2, 3}


async def test_rubbish_at_the_end_is_no_record(tmp_path: Path) -> None:
    original = tmp_path / "original"
    ledger = Ledger(original)
    ledger.put(key(1), record(1))
    await ledger.flush()
    copy = Path(shutil.copytree(original, tmp_path / "copy"))
    (copy / "generations.db-shm").unlink()
    with (copy / "generations.db-wal").open("ab") as log:
        log.write(os.urandom(10_000))
    again = Ledger(copy)
    assert again.records == {key(1): record(1)}
    again.put(key(2), record(2))
    await again.flush()
    assert read(copy) == {key(1): record(1), key(2): record(2)}


async def test_a_disk_that_refuses_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path)

    def refuse(connection: sqlite3.Connection, objects: ledgers.Objects, host: HostRecord | None) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(ledgers, "_write", refuse)
        ledger.put_host(HOST)
        ledger.put(key(1), record(1))
        ledger.put(key(2), record(1))
        with pytest.raises(Unavailable, match="full") as refused:
            await ledger.flush()
        assert refused.value.remedy
        assert not ledger.has_saved(key(1))
    ledger.put(key(2), record(2))
    await ledger.flush()
    assert ledger.has_saved(key(1))
    again = Ledger(tmp_path)
    assert again.records == {key(1): record(1), key(2): record(2)}
    assert again.host == HOST


async def test_a_cancelled_wait_leaves_the_commit_whole(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.put(key(1), record(1))
    waiting = asyncio.create_task(ledger.flush())
    await asyncio.sleep(0)
    waiting.cancel()
    ledger.put(key(2), record(2))
    await ledger.flush()
    assert waiting.cancelled() or waiting.done()
    assert read(tmp_path) == {key(1): record(1), key(2): record(2)}


@pytest.mark.parametrize("damage", ["emptied", "rubbish", "another format", "a page", "no host"])
async def test_what_is_damaged_is_not_taken_for_empty(tmp_path: Path, damage: str) -> None:
    ledger = Ledger(tmp_path)
    for number in range(200):
        ledger.put(key(number), record(1))
    await ledger.close()
    file = tmp_path / "generations.db"
    match damage:
        case "emptied":
            os.truncate(file, 0)
        case "rubbish":
            file.write_bytes(b"{}")
        case "another format":
            with sqlite3.connect(file) as connection:
                connection.execute("PRAGMA user_version = 99")
        case "a page":
            content = bytearray(file.read_bytes())
            content[3 * 4096 : 4 * 4096] = os.urandom(4096)
            file.write_bytes(content)
        case "no host":
            with sqlite3.connect(file) as connection:
                connection.execute("DELETE FROM host")
    with pytest.raises(FailedPrecondition) as refused:
        Ledger(tmp_path)
    assert refused.value.reason == "GENERATIONS_DAMAGED"
    assert refused.value.remedy


async def test_a_database_that_was_removed_takes_its_log_along(tmp_path: Path) -> None:
    """As the remedy says; the log that is left would be read into the new one."""
    ledger = Ledger(tmp_path)
    ledger.put(key(1), record(1))
    await ledger.flush()
    (tmp_path / "generations.db").unlink()
    assert read(tmp_path) == {}


async def test_a_crash_while_the_first_is_made_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Crash(BaseException):
        """Nothing that runs after the crash may tidy up."""

    def crash(source: Path, target: Path) -> None:
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", crash)
        with pytest.raises(Crash):
            Ledger(tmp_path)
    assert not (tmp_path / "generations.db").exists()
    assert read(tmp_path) == {}
    assert not [name for name in os.listdir(tmp_path) if ".new" in name]


def test_the_json_file_of_before_is_taken_over_once(tmp_path: Path) -> None:
    entry = {"generation": 4, "tombstone": True, "established": False, "since": 1.0, "epoch": 2, "spec": "ab"}
    content = {"format": 2, "boot_id": "b", "epoch": 2, "told_epoch": 3, "observe_only": True}
    (tmp_path / "generations.json").write_text(json.dumps({**content, "objects": {"port/a": entry}}))
    for ledger in (Ledger(tmp_path), Ledger(tmp_path)):
        assert ledger.records == {("port", "a"): Record(4, True, False, 1.0, 2, "ab")}
        assert ledger.host == HostRecord("b", 2, 3, acts=False)
    assert not (tmp_path / "generations.json").exists()


@pytest.mark.parametrize("content", ["", "{", json.dumps({"format": 99, "boot_id": "", "objects": {}})])
def test_a_damaged_json_file_is_not_taken_for_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "generations.json").write_text(content)
    with pytest.raises(FailedPrecondition) as refused:
        Ledger(tmp_path)
    assert refused.value.remedy
    assert (tmp_path / "generations.json").exists()
