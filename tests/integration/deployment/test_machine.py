"""One deployment for each machine, that is for each network namespace."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deployment.machine import MachineTaken, claimed, holder

# In a namespace of its own: a cloud may be running on this machine.
ISOLATED = ("unshare", "--net", "--map-root-user", sys.executable, "-c")


def isolated(code: str) -> str:
    done = subprocess.run([*ISOLATED, code], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_second_is_told_who_the_first_is() -> None:
    code = """
from pathlib import Path
from deployment.machine import MachineTaken, claimed, holder
print(holder())
with claimed(Path("/one")):
    print(holder())
    try:
        with claimed(Path("/two")):
            print("two of them")
    except MachineTaken as error:
        print(error.message, error.remedy, sep="; ")
print(holder())
"""
    assert isolated(code).splitlines() == [
        "None",
        "/one",
        "another deployment in /one runs on this machine; stop it first: make down ARGS='--state-dir /one'",
        "None",
    ]


def test_another_namespace_is_another_machine(tmp_path: Path) -> None:
    if (running := holder()) is not None:
        # A cloud runs here: it is the first.
        with pytest.raises(MachineTaken), claimed(tmp_path):
            pass
        assert isolated("from deployment.machine import holder; print(holder())") == "None", running
        return
    with claimed(tmp_path):
        assert isolated("from deployment.machine import holder; print(holder())") == "None"
        assert holder() == tmp_path
