"""The watch over the logs of a test run finds what leaks, names where, and does not take silence for peace."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOKEN = ".".join(("eyJhbGciOiJFZERTQSJ9", "eyJzdWIiOiIwMTk3YTAwMCJ9", "c2lnbmF0dXJlLW9mLWl0"))
HEAD = f"""
import base64, logging, pytest, structlog, subprocess, sys
from tests.harness.planted import planted
SECRET = planted("the password")
TOKEN = {TOKEN!r}
@pytest.fixture
def cloud():
    pass
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not below this run's own, whose logs are searched as well."""
    with tempfile.TemporaryDirectory(prefix="cirra-log-watch-") as name:
        yield Path(name)


def run(folder: Path, body: str, *arguments: str) -> tuple[int, str]:
    """Exit code and output of a test run of its own, watched."""
    (folder / "test_it.py").write_text(HEAD + body)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.harness.log_watch", "--rootdir", str(folder)]
    plain = ["-c", "/dev/null", "--basetemp", str(folder / "base"), *arguments, str(folder / "test_it.py")]
    done = subprocess.run([*command, *plain], cwd=ROOT, capture_output=True, text=True, timeout=180)
    return done.returncode, done.stdout + done.stderr


LEAKS = {
    "print(SECRET)": "captured stdout call",
    "print(SECRET, file=sys.stderr)": "captured stderr call",
    "structlog.get_logger('x').info('login', user=SECRET)": "captured stdout call",
    "logging.getLogger('x').warning('login of %s', SECRET)": "captured log call",
    "print(base64.b64encode(b'{\"user_data\": ' + SECRET.encode()).decode())": "captured stdout call",
    "print(SECRET.encode().hex())": "captured stdout call",
    "subprocess.run(['echo', SECRET], check=True)": "captured stdout call",
    "request.addfinalizer(lambda: print(SECRET))": "captured stdout teardown",
    "(tmp_path / 'service.log').write_text(SECRET + chr(10))": "service.log",
    "(tmp_path / 'deep').mkdir(); (tmp_path / 'deep' / 't.jsonl').write_text(TOKEN)": "t.jsonl",
    "print('bearer', TOKEN)": "a signed token in captured stdout",
    "print('$argon2id$v=19$m=64,t=1,p=1$c2FsdA$aGFzaA')": "a password's hash in captured stdout",
    "log_watch.know('the seal', 'opensesame-opensesame'); print('opensesame-opensesame')": "the seal in",
}


def test_a_leak_fails_the_run_and_is_named(folder: Path) -> None:
    body = "".join(
        f"def test_{number}(tmp_path, log_watch, request):\n    {leak}\n" for number, leak in enumerate(LEAKS)
    )
    code, output = run(folder, body)
    assert (code, f"{len(LEAKS)} passed" in output) == (1, True), f"no test has failed, the run has:\n{output}"
    found = output[output.index("secrets are in the logs") :].splitlines()
    missed = [
        leak
        for number, (leak, where) in enumerate(LEAKS.items())
        if not any(where in line and re.search(rf"test_{number}\b|test_{number}0", line) for line in found)
    ]
    assert missed == [], output


def test_a_traceback_shows_no_local_variables_and_a_clean_run_tells_how_much_was_read(folder: Path) -> None:
    body = """
def test_it(cloud):
    password = SECRET
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger("x").exception("failed")
"""
    code, output = run(folder, body)
    assert code == 0, output
    told = re.search(r"logs: (\d+) lines and 0 in files, no secret in them", output)
    assert told is not None and int(told[1]) >= 4, output


def test_services_that_say_nothing_at_all_are_not_believed(folder: Path) -> None:
    code, output = run(folder, "def test_it(cloud):\n    pass\n")
    assert (code, "nothing was watched" in output) == (1, True), output
    code, _ = run(folder, "def test_it(cloud):\n    pass\n", "--capture=no")
    assert code == 0, "who wants to see the output has it on the terminal, not here"


def test_a_folder_outside_of_pytests_is_searched_and_kept_only_as_evidence(folder: Path) -> None:
    body = f"""
import pathlib
def test_well(log_watch):
    with log_watch.folder("well-", {str(folder)!r}) as inside:
        (inside / "service.log").write_text("fine")
@pytest.fixture
def broken(log_watch):
    with log_watch.folder("ill-", {str(folder)!r}) as inside:
        yield inside
def test_ill(broken):
    (broken / "service.log").write_text(SECRET)
    raise ValueError("of the test")
"""
    code, output = run(folder, body)
    assert code == 1 and "1 failed, 1 passed" in output, output
    [kept] = [*folder.glob("well-*"), *folder.glob("ill-*")]
    assert f"a planted secret in {kept / 'service.log'}" in output


def test_no_test_makes_folders_that_nobody_searches() -> None:
    own = {"tests/harness/log_watch.py", "tests/unit/test_log_watch.py"}
    makes = re.compile(r"\b(mkdtemp|TemporaryDirectory)\b")
    found = {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.py") if makes.search(path.read_text())}
    assert found == own


def test_what_several_processes_have_seen_is_put_together(folder: Path) -> None:
    body = """
@pytest.mark.parametrize("number", range(4))
def test_clean(cloud, number):
    print("a line")
"""
    code, output = run(folder, body, "--numprocesses", "2")
    assert (code, "logs: 4 lines and 0 in files, no secret in them" in output) == (0, True), output
    code, output = run(folder, body + "def test_leak():\n    print(SECRET)\n", "--numprocesses", "2")
    assert (code, "secrets are in the logs" in output, "::test_leak" in output) == (1, True, True), output
