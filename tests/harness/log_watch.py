"""A pytest plugin: every log of the test run is searched for secrets, and a run that has logged one has failed.

Searched are what each test's process and its children have written to stdout, stderr and `logging` (which is how
services in this process log), and the log and trace files below pytest's folder and below those that a fixture shows
with `log_watch.look_into`. Searched for are what tests plant (`tests.harness.planted`), what a fixture makes known with
`log_watch.know`, and what nobody should log whatever it says: tokens, password hashes, private keys.

Folders that can't be below pytest's own are made by `log_watch.folder`, and by nothing else: so none is forgotten.

A search that can't find anything is a failure too: tests that run services leave lines, or nothing was watched.
"""

from __future__ import annotations

import base64
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from core import logs
from core.settings import ServiceSettings
from tests.harness.planted import CANARY

_WATCH = pytest.StashKey["LogWatch"]()
_WORKER = "log_watch"
_FILES = ("*.log", "*.jsonl")
SHORTEST = 12
# Tests with one of these run services, and services log.
_TALKATIVE = frozenset({"module_cell", "plane", "cloud", "whole_cloud", "stages"})
_SHAPES: Mapping[str, re.Pattern[bytes]] = {
    # RFC 7519: header and claims are JSON objects in base64.
    "a signed token": re.compile(rb"\beyJ[\w-]{16,}\.eyJ[\w-]{16,}\.[\w-]{16,}"),
    "a password's hash": re.compile(rb"\$argon2(id|i|d)\$v=\d+"),
    "a private key": re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "an nkey seed": re.compile(rb"\bS[OAU][A-Z2-7]{56}\b"),
}


def forms(secret: str) -> Iterator[bytes]:
    """A secret as a log may show it: itself, escaped, in hexadecimal, in base64 at whatever offset."""
    data = secret.encode()
    yield data
    yield secret.encode("unicode_escape")
    yield data.hex().encode()
    for shift in range(3):
        # Without the characters at either end, which depend on the neighbours.
        yield base64.b64encode(b"\0" * shift + data)[4 if shift else 0 : -4]


class LogWatch:
    """What was looked at, and what was found. `lines`: how many, by the kind of source. `failures`: of tests."""

    def __init__(self) -> None:
        self.lines: dict[str, int] = {"captured": 0, "files": 0}
        self.leaks: list[str] = []
        self.failures = 0
        self.talkative: set[str] = set()
        self._secrets: dict[str, tuple[bytes, ...]] = {"a planted secret": tuple(forms(CANARY))}
        self._seen: set[tuple[str, str]] = set()

    def know(self, what: str, secret: str) -> None:
        """From now on this is searched for as well. Raises ValueError for what is as short as other words."""
        if len(secret) < SHORTEST:
            raise ValueError(f"{what} has {len(secret)} characters: too few to search for")
        self._secrets[what] = tuple(forms(secret))

    @contextmanager
    def folder(self, prefix: str, parent: str = "/var/tmp") -> Iterator[Path]:
        """A new folder outside of pytest's, for what needs a short path (a unix socket) or a real disk (not a tmpfs).

        At the end its logs are searched. It is removed, unless something failed meanwhile: then they are evidence.
        """
        folder, failed_before = Path(tempfile.mkdtemp(prefix=prefix, dir=parent)), self.failures
        try:
            yield folder
        finally:
            self.look_into(folder)
        if self.failures == failed_before:
            shutil.rmtree(folder)

    def look_into(self, folder: Path) -> None:
        """Searches every log and trace file below the folder, before it is removed."""
        for pattern in _FILES:
            for path in sorted(folder.rglob(pattern)):
                if path.is_file():
                    self.look(path.read_bytes(), str(path), "files")

    def look(self, text: bytes, where: str, kind: str = "captured") -> None:
        self.lines[kind] += text.count(b"\n")
        for what, shown in self._secrets.items():
            if any(form in text for form in shown):
                self.leaks.append(f"{what} in {where}")
        for what, shape in _SHAPES.items():
            if shape.search(text):
                self.leaks.append(f"{what} in {where}")

    def look_at_report(self, report: pytest.TestReport) -> None:
        """Each section once: the later phases of a test repeat those of the earlier ones."""
        self.failures += report.failed
        for title, text in report.sections:
            if (report.nodeid, title) not in self._seen:
                self._seen.add((report.nodeid, title))
                self.look(text.encode(errors="replace"), f"{title.lower()} of {report.nodeid}")

    def add(self, lines: Mapping[str, int], leaks: Sequence[str], talkative: Iterable[str]) -> None:
        """What was looked at, and found, by another process of the run."""
        for kind, count in lines.items():
            self.lines[kind] += count
        self.leaks += leaks
        self.talkative |= set(talkative)

    def complaint(self, *, capturing: bool) -> str:
        """Why the run has failed by its logs; empty when it has not."""
        if self.leaks:
            return "secrets are in the logs:\n  " + "\n  ".join(self.leaks)
        if self.talkative and capturing and not self.lines["captured"]:
            return f"{len(self.talkative)} tests ran services, and not a line of a log was seen: nothing was watched"
        return ""


class _Stdout:
    """Wherever stdout goes at the moment: each test's own is another."""

    def write(self, text: str) -> int:
        return sys.stdout.write(text)

    def flush(self) -> None:
        sys.stdout.flush()


@pytest.fixture(scope="session")
def log_watch(pytestconfig: pytest.Config) -> LogWatch:
    return pytestconfig.stash[_WATCH]


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_WATCH] = LogWatch()
    # As services do: their developers' format would show the local variables of every frame.
    stream: Any = _Stdout()
    logs.configure("tests", ServiceSettings(log_format="console"), stream=stream)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if _TALKATIVE & set(getattr(item, "fixturenames", ())):
        item.config.stash[_WATCH].talkative.add(item.nodeid)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome: Any = yield
    item.config.stash[_WATCH].look_at_report(outcome.get_result())


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    watch, output = session.config.stash[_WATCH], getattr(session.config, "workeroutput", None)
    if output is not None or not session.config.getoption("numprocesses", None):  # who has workers runs nothing itself
        watch.look_into(_own_folder(session.config))
    if output is not None:
        output[_WORKER] = (watch.lines, watch.leaks, sorted(watch.talkative))
    elif watch.complaint(capturing=_captures(session.config)) and session.exitstatus in (0, pytest.ExitCode.OK):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """One of several processes that share the run (pytest-xdist) has ended: what it has seen counts here."""
    if _WORKER in (output := getattr(node, "workeroutput", {})):
        node.config.stash[_WATCH].add(*output[_WORKER])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    watch = config.stash[_WATCH]
    complaint = watch.complaint(capturing=_captures(config))
    if complaint:
        terminalreporter.section("logs", red=True, bold=True)
    terminalreporter.line(
        complaint or f"logs: {watch.lines['captured']} lines and {watch.lines['files']} in files, no secret in them"
    )


def _captures(config: pytest.Config) -> bool:
    return config.getoption("capture") != "no"


def _own_folder(config: pytest.Config) -> Path:
    """Pytest's folder of this run."""
    factory: Any = config._tmp_path_factory  # type: ignore[attr-defined]
    folder: Path = factory.getbasetemp()
    return folder
