"""Garbage is looked for seldom while a service serves."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from core.service import _spare_garbage_collections


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def test_what_stays_is_not_looked_through_again_and_cycles_are_found_all_the_same() -> None:
    _spare_garbage_collections()
    assert gc.get_freeze_count() > 0
    assert gc.get_threshold()[0] > 1_000
    assert gc.isenabled()
    cycle: list[object] = []
    cycle.append(cycle)
    del cycle
    assert gc.collect() >= 1
