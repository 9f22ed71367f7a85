"""What every test shares: fixtures of a real NATS and a real Postgres come from `core.testing`.

Every log of the run is searched for secrets (`tests.harness.log_watch`).

`make test` shares the run between processes (pytest-xdist): a file's tests stay together, and so do all those that run
whole clouds of processes, one after the other.
"""

from __future__ import annotations

import signal
from typing import Any

import pytest
from hypothesis import settings

pytest_plugins = ["core.testing.servers", "tests.harness.log_watch"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what is in the background so, and programs that tests interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says something of the machine, and nothing of what is tried.
settings.register_profile("cirra", deadline=None)
settings.load_profile("cirra")

_CLOUDS = ("tests/chaos/", "tests/e2e/")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    from xdist.scheduler import LoadScopeScheduling  # only where a run is shared

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "clouds" if nodeid.startswith(_CLOUDS) else nodeid.partition("::")[0]

    return ByFile(config, log)
