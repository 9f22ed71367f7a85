"""`cloud`: one cloud of real processes for all tests here; `report`: what came of it, printed at the end."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.chaos.cloud import ChaosCloud, chaos_cloud
from tests.chaos.report import Report
from tests.harness.log_watch import LogWatch

_REPORT = pytest.StashKey[Report]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_REPORT] = Report()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    report = config.stash[_REPORT]
    if report.rows:
        terminalreporter.section("what chaos came to")
        for line in report.lines():
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> Report:
    return pytestconfig.stash[_REPORT]


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def cloud(request: pytest.FixtureRequest, log_watch: LogWatch) -> AsyncIterator[ChaosCloud]:
    failed_before = request.session.testsfailed
    folder = Path(tempfile.mkdtemp(prefix="cirra-chaos-", dir="/var/tmp"))
    async with chaos_cloud(folder) as running:
        yield running
    log_watch.look_into(folder)
    # The logs of another run are evidence.
    if request.session.testsfailed == failed_before:
        shutil.rmtree(folder)
