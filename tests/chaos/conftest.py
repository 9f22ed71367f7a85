"""`cloud`: a cloud of real processes, shared by the tests here; `report`: what came of it, printed at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.chaos.cloud import ChaosCloud
from tests.chaos.clouds import Clouds
from tests.chaos.report import Report
from tests.harness.log_watch import LogWatch

_REPORT = pytest.StashKey[Report]()
_WORKER = "chaos"


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_REPORT] = Report()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output[_WORKER] = session.config.stash[_REPORT].rows


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A process that shares the run (pytest-xdist) has ended."""
    node.config.stash[_REPORT].rows += getattr(node, "workeroutput", {}).get(_WORKER, [])


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
async def clouds(log_watch: LogWatch) -> AsyncIterator[Clouds]:
    shared = Clouds(log_watch)
    yield shared
    await shared.close()


@pytest_asyncio.fixture(loop_scope="session")
async def cloud(clouds: Clouds) -> ChaosCloud:
    return await clouds.usable()
