"""What `status` says of processes, with real ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployment.layout import Layout
from deployment.overview import ProcessRow, processes
from deployment.status import PartState, PartStatus, Phase, Status


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    yield child
    child.kill()
    child.wait()


def _row(folder: Path, pid: int) -> ProcessRow:
    layout = Layout(folder)
    layout.prepare()
    Status(os.getpid(), Phase.READY, parts={"part": PartStatus(PartState.READY, pid)}).save(layout.status)
    [supervisor, row] = processes(layout)
    assert supervisor.state == "not running", "nobody holds its lock"
    return row


def test_a_process_that_a_signal_has_stopped_is_frozen_and_not_healthy(
    tmp_path: Path, process: subprocess.Popen[bytes]
) -> None:
    assert (_row(tmp_path, process.pid).state, _row(tmp_path, process.pid).healthy) == ("ready", True)
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)
    frozen = _row(tmp_path, process.pid)
    assert (frozen.state, frozen.healthy) == ("frozen", False)
    assert frozen.uptime_s is not None


def test_a_process_that_ended_behind_the_supervisors_back_is_gone(
    tmp_path: Path, process: subprocess.Popen[bytes]
) -> None:
    process.kill()
    process.wait()
    row = _row(tmp_path, process.pid)
    assert (row.state, row.healthy, row.uptime_s) == ("gone", False, None)
