"""After every integration test that made a log, the invariants of its cell hold (DESIGN §8).

A directory whose tests fill logs with made-up events overrides `invariants`. A test that breaks some on purpose says
which: `@pytest.mark.breaks("CONSTRAINTS")`, and then it must.
"""

from __future__ import annotations

import pytest

from core.testing.invariants import Invariant
from core.testing.servers import Cell


@pytest.fixture
def invariants() -> frozenset[Invariant]:
    """Those that the logs of these tests can have."""
    return frozenset(Invariant)


def broken_on_purpose(request: pytest.FixtureRequest) -> set[Invariant]:
    """What the test's markers say."""
    return {Invariant[name] for marker in request.node.iter_markers("breaks") for name in marker.args}


@pytest.fixture(autouse=True)
def invariants_hold(request: pytest.FixtureRequest) -> None:
    """Has the checker look at the test's cell, if it has one of its own, when all that used it has ended."""
    if "cell" not in request.fixturenames:
        return
    cell = request.getfixturevalue("cell")
    if not isinstance(cell, Cell):  # a world of the test's own, by the same name
        return
    possible: frozenset[Invariant] = request.getfixturevalue("invariants")
    broken = broken_on_purpose(request)

    async def look() -> None:
        from tests.harness.invariants import check_at_rest  # all services: only those need them who have a cell

        await check_at_rest(cell, possible, broken)

    cell.at_end(look)
