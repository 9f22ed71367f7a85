"""Running the machine's own tools: argument lists, bounded time, errors that carry what the tool said."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from deployment.guests.errors import GuestBuildError

# Some of the tools live in sbin folders, which a PATH made by cron or by a test runner may lack.
_SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
_LAST_LINES = 15


def require_tools(packages_by_tool: Mapping[str, str]) -> None:
    """Raises `GuestBuildError`, naming every Debian package to install, when any of the tools is missing."""
    missing = {tool: package for tool, package in packages_by_tool.items() if find_tool(tool) is None}
    if missing:
        raise GuestBuildError(
            f"these tools are not installed: {', '.join(sorted(missing))}",
            f"apt-get install --no-install-recommends {' '.join(sorted(set(missing.values())))}",
        )


def require_root(purpose: str) -> None:
    """Raises `GuestBuildError` unless the effective user is root."""
    if os.geteuid() != 0:
        raise GuestBuildError(f"{purpose} needs root", "run this as root (sudo)")


def find_tool(name: str) -> Path | None:
    """The absolute path of an executable, or None."""
    found = shutil.which(name, path=_SEARCH_PATH)
    return None if found is None else Path(found)


def contained(argv: Sequence[str | Path]) -> list[str | Path]:
    """`argv` such that its mounts, and whatever it starts, end with it, and it with the thread that runs it.

    Even on SIGKILL: mount and process namespaces (unshare(1)), and a parent-death signal (setpriv(1)). Nobody
    else sees its mounts. It needs root.
    """
    return [
        "setpriv", "--pdeathsig", "KILL",
        "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc",
        *argv,
    ]  # fmt: skip


def run(
    argv: Sequence[str | Path],
    *,
    timeout_s: float,
    remedy: str,
    stdin: str = "",
    cwd: Path | None = None,
) -> str:
    """Runs one tool to its end and returns its standard output.

    Raises `GuestBuildError` with the end of what the tool said when it is missing, fails, or takes longer
    than `timeout_s`; then, as on Ctrl-C, its whole process group is killed.
    """
    words = [str(word) for word in argv]
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            cwd=cwd,
            env=os.environ | {"PATH": _SEARCH_PATH, "LC_ALL": "C.UTF-8"},
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise GuestBuildError(f"{words[0]} is not installed", remedy) from error
    try:
        stdout, stderr = process.communicate(stdin, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        _kill_group(process)
        raise GuestBuildError(f"`{' '.join(words)}` took longer than {timeout_s:g} s", remedy) from error
    except BaseException:
        _kill_group(process)
        raise
    if process.returncode != 0:
        said = "\n".join((stderr.strip() or stdout.strip()).splitlines()[-_LAST_LINES:])
        raise GuestBuildError(f"`{' '.join(words)}` exited with {process.returncode}:\n{said}", remedy)
    return stdout


def _kill_group(process: subprocess.Popen[str]) -> None:
    """Kills the tool and its children, and reaps the tool; the group's id is the tool's (a new session)."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
