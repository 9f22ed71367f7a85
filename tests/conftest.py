"""What every test shares: fixtures of a real NATS and a real Postgres come from `core.testing`.

Every log of the run is searched for secrets (`tests.harness.log_watch`).

`make test` shares the run between processes (pytest-xdist): a file's tests stay together, and so do all those that run
whole clouds of processes, one after the other.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest_plugins = ["core.testing.servers", "tests.harness.log_watch"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what is in the background so, and programs that tests interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

_HERE = Path(__file__).parent
_CLOUDS = {"chaos", "e2e"}


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:
        where = item.path.relative_to(_HERE)
        item.add_marker(pytest.mark.xdist_group("clouds" if where.parts[0] in _CLOUDS else str(where)))
