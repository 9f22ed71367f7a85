"""How the builder runs the machine's tools: what it returns, and what its errors say."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from deployment.guests import GuestBuildError
from deployment.guests.commands import require_tools, run


def test_output_is_returned_and_input_passed() -> None:
    assert run(["cat"], timeout_s=10, remedy="", stdin="through") == "through"


def test_a_failure_carries_the_end_of_what_the_tool_said() -> None:
    with pytest.raises(GuestBuildError) as caught:
        run(["sh", "-c", "echo it broke >&2; exit 3"], timeout_s=10, remedy="mend it")
    assert "exited with 3:\nit broke" in caught.value.problem
    assert caught.value.remedy == "mend it"


def test_a_missing_tool_is_named() -> None:
    with pytest.raises(GuestBuildError, match="no-such-tool is not installed"):
        run(["no-such-tool"], timeout_s=10, remedy="install it")


def test_all_missing_tools_are_named_with_their_packages() -> None:
    with pytest.raises(GuestBuildError, match=r"apt-get install .* pack-a pack-b") as caught:
        require_tools({"sh": "dash", "no-such-tool-b": "pack-b", "no-such-tool-a": "pack-a"})
    assert "no-such-tool-a, no-such-tool-b" in caught.value.problem


def test_a_tool_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"sleep 300 & echo $! >{pid_file}; wait"
    started = time.monotonic()
    with pytest.raises(GuestBuildError, match="longer than 2 s"):
        run(["sh", "-c", script], timeout_s=2, remedy="")
    assert time.monotonic() - started < 30
    child = int(pid_file.read_text())
    # Its kill was sent before; that it is carried out takes the kernel a moment.
    while _runs(child):
        assert time.monotonic() - started < 30, "the tool's child outlived it"
        time.sleep(0.01)


@pytest.mark.root
def test_what_is_contained_dies_with_its_runner(tmp_path: Path) -> None:
    """As when a builder is killed: neither the mount nor the process that holds it survives."""
    mark = tmp_path / "mounted"
    script = f"mount -t tmpfs none {tmp_path} && touch {mark} && echo here && sleep 300"
    runner = (
        "import subprocess, sys\n"
        "from deployment.guests.commands import contained\n"
        f"subprocess.run(contained(['sh', '-c', {script!r}]))\n"
    )
    with subprocess.Popen([sys.executable, "-c", runner], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        assert not mark.exists()  # the mount is not ours to see
        descendants = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        gone, alive = psutil.wait_procs(descendants, timeout=60)
    assert gone
    assert alive == []


def _runs(pid: int) -> bool:
    """Neither gone, nor a zombie that waits for its new parent."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
