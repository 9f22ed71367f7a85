"""`cloud`: one real cloud for the whole run, with this machine as its host. It needs root.

After every test that uses it, its invariants hold: log, stream, read models, claims, ports, guests, blobs.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.cloud import Cloud, running_cloud
from tests.harness.log_watch import LogWatch
from tests.harness.root import require_root

_CHECK_TIMEOUT_S = 180.0


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cloud(log_watch: LogWatch) -> AsyncIterator[Cloud]:
    require_root("guests, bridges, namespaces")
    with log_watch.folder("cirra-e2e-") as state_dir:
        async with running_cloud(state_dir) as running:
            for path in running.layout.secrets.iterdir():
                log_watch.know(f"secrets/{path.name}", path.read_text().strip())
            yield running


@pytest.fixture(autouse=True)
def invariants_hold(request: pytest.FixtureRequest) -> Iterator[None]:
    if "cloud" not in request.fixturenames:
        yield
        return
    cloud: Cloud = request.getfixturevalue("cloud")
    yield
    # In a process of its own: where a cloud's servers listen, only its own machine's network reaches.
    command = ["nsenter", f"--net=/run/netns/{cloud.machine.namespace}", "--", sys.executable, "-m"]
    checked = subprocess.run(
        [*command, "tests.e2e.soundness", str(cloud.layout.root)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=_CHECK_TIMEOUT_S,
    )
    assert checked.returncode == 0, f"invariants are broken:\n{checked.stdout}{checked.stderr}"
