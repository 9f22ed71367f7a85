"""What a host has noted survives the kill of its agent at any moment, and a disk without room."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from core.agent.ledger import Ledger
from core.agent.records import Key, Record

KEYS = 5  # few, so that records are replaced as well as added

_NOTE = """
import asyncio, itertools, sys
from pathlib import Path
from core.agent.ledger import Ledger
from core.agent.records import Record
from core.errors import Unavailable

def noted(number):
    return ("domain", str(number % KEYS)), Record(number, number % 3 == 0, True, float(number), 1, "x" * 16)
"""

_WITHOUT_END = """
async def main(folder):
    ledger = Ledger(folder)
    for number in itertools.count(max((it.generation for it in ledger.records.values()), default=0) + 1):
        ledger.put(*noted(number))
        await ledger.flush()
        print(number, flush=True)

asyncio.run(main(Path(sys.argv[1])))
"""

_UNTIL_FULL = """
async def main(folder):
    ledger = Ledger(folder / "agent")
    ballast = folder / "ballast"
    ballast.write_bytes(b"x" * 65536)
    flushed, refused = [], 0
    for number in range(1, 5000):
        ledger.put(*noted(number))
        try:
            await ledger.flush()
        except Unavailable as error:
            assert error.reason == "GENERATIONS_NOT_SAVED", error
            refused = number
            break
        flushed.append(number)
    assert refused, "the disk was large enough"
    assert Ledger(folder / "agent").records == as_noted(flushed)
    ballast.unlink()
    await ledger.flush()
    assert Ledger(folder / "agent").records == as_noted([*flushed, refused])
    print("refused", refused)

def as_noted(numbers):
    return dict(map(noted, numbers))

asyncio.run(main(Path(sys.argv[1])))
"""


def _noted(number: int) -> tuple[Key, Record]:
    return ("domain", str(number % KEYS)), Record(number, number % 3 == 0, True, float(number), 1, "x" * 16)


def _program(body: str) -> str:
    return f"KEYS = {KEYS}\n{_NOTE}\n{body}"


def test_whatever_was_flushed_is_there_after_a_kill(tmp_path: Path) -> None:
    chance = random.Random(7)
    for _ in range(6):
        command = [sys.executable, "-c", _program(_WITHOUT_END), str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(chance.randrange(1, 400)):
                last = int(process.stdout.readline())
            process.kill()
            # It went on between our last look and its end.
            last = max([last, *(int(line) for line in process.stdout.read().splitlines() if line)])
        # The one that it did not live to tell of may be there as well: whole.
        assert Ledger(tmp_path).records in (_all_up_to(last), _all_up_to(last + 1))


@pytest.mark.root
def test_a_full_disk_refuses_and_what_was_flushed_stays(tmp_path: Path) -> None:
    mount = 'mount -t tmpfs -o size=320k tmpfs "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "-m", "sh", "-c", mount, "sh", str(tmp_path), sys.executable, _program(_UNTIL_FULL)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("refused"), done.stdout


def _all_up_to(last: int) -> dict[Key, Record]:
    return dict(map(_noted, range(1, last + 1)))
