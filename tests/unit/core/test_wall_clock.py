"""The wall clock of one machine decides nothing between machines: who reads it stands here, with the reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCES = ("libs/core/src", "services", "deploy/src", "sdk/src")

ALLOWED = {
    "deploy/src/deployment/backup.py": "names the data that a restore puts aside, for people",
    "deploy/src/deployment/demo/story.py": "asks its own machine's log for what came since",
    "deploy/src/deployment/keeper.py": "since when a process runs, for people on the same machine",
    "deploy/src/deployment/overview.py": "the same, read",
    "deploy/src/deployment/secrets.py": "dates identities; certificates are backdated by a day, NATS ignores the date",
    "libs/core/src/core/agent/reporter.py": "a report tells its time; nobody judges by it",
    "libs/core/src/core/embedded/nats.py": "dates tokens, which NATS ignores",
    "libs/core/src/core/ids.py": "UUIDv7: ids only tend to rise, nothing relies on it",
    "libs/core/src/core/pki/authority.py": "for an authority that has no database at hand: the deployment's",
    "libs/core/src/core/spans.py": "when a span begins and ends, for who looks at traces",
    "libs/core/src/core/testing/servers.py": "dates tokens, which NATS ignores",
    "sdk/src/cirra_sdk/cli/text.py": "'10m ago' is by the clock of who says it",
    "sdk/src/cirra_sdk/login.py": "when a token was got, on this machine; the gateway judges",
    "sdk/src/cirra_sdk/state.py": "ages of the client's own notes",
    "services/compute-agent/src/compute_agent/loops.py": "ages of this host's own files",
    "services/metadata/src/metadata/http.py": "the Date of an answer (RFC 9110, section 6.6.1); nobody judges by it",
    "services/net-agent/src/net_agent/metadata_proxy/__main__.py": "dates lines of a log",
}

WALL_CLOCKS = {
    "time.time",
    "time.time_ns",
    "time.localtime",
    "time.gmtime",
    "time.CLOCK_REALTIME",
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "date.today",
}


def readings(source: str) -> Iterator[str]:
    """The wall clocks that a module names, also without calling them (as a default, as an argument)."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else getattr(node.value, "attr", "")
            if f"{owner}.{node.attr}" in WALL_CLOCKS or node.attr == "GetCurrentTime":
                yield f"{owner}.{node.attr}"
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            yield from (f"time.{name.name}" for name in node.names if f"time.{name.name}" in WALL_CLOCKS)


def modules() -> Iterator[Path]:
    for source in SOURCES:
        yield from (path for path in (ROOT / source).rglob("*.py") if "tests" not in path.parts)


def test_who_reads_the_wall_clock_says_why() -> None:
    found = {str(path.relative_to(ROOT)) for path in modules() if any(readings(path.read_text()))}
    assert found - ALLOWED.keys() == set(), "use core.clock.DatabaseClock, a monotonic clock, or recorded_at"
    assert ALLOWED.keys() - found == set(), "no longer: take it off the list"


@pytest.mark.parametrize(
    "source",
    [
        "import time\nnow = time.time",
        "from time import time_ns",
        "import datetime\ndatetime.datetime.now(datetime.UTC)",
        "from datetime import UTC, datetime\ndatetime.now(UTC)",
        "timestamp.GetCurrentTime()",
        "import time\ntime.clock_gettime(time.CLOCK_REALTIME)",
    ],
)
def test_readings_are_found(source: str) -> None:
    assert [*readings(source)]


def test_other_clocks_are_no_readings() -> None:
    assert not [*readings("import time\ntime.monotonic()\nloop.time()\nself.clock.now()")]
