"""One host that ends, and many at once."""

from __future__ import annotations

import pytest

from placement.liveness.outage import Outages


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("hosts", "fewest"),
    [(2, 2), (3, 2), (4, 2), (5, 3), (6, 3), (100, 3), (10_000, 3)],
)
def test_many_are_three_or_half_of_all_and_never_one(hosts: int, fewest: int) -> None:
    outages = Outages(together_s=30.0, many=3, monotonic=Clock())
    assert not outages.is_many(fewest - 1, hosts)
    assert outages.is_many(fewest, hosts)
    assert not outages.is_many(1, 1)


def test_those_that_fell_a_moment_ago_count_as_well() -> None:
    clock = Clock()
    outages = Outages(together_s=30.0, monotonic=clock)
    outages.fell("a")
    clock.now += 20.0
    outages.fell("b")
    assert outages.together({"c"}) == {"a", "b", "c"}
    clock.now += 15.0
    assert outages.together({"c"}) == {"b", "c"}
    outages.rose("b")
    assert outages.together(set()) == set()
