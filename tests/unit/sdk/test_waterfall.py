"""Where the bars of a timeline begin and end."""

from __future__ import annotations

import pytest
from rich.console import Console

from cirra.events.v1 import events_pb2 as events
from cirra_sdk.cli.waterfall import bar, span_ms, waterfall


@pytest.mark.parametrize(
    ("offset_ms", "duration_ms", "drawn"),
    [
        (0, 1000, "██████████"),
        (500, 500, "     █████"),
        (0, 0, "▏"),
        (100, 50, " ▌"),
        # At the end, and after it: still to be seen, and not beyond the edge.
        (1000, 0, "         ▏"),
        (5000, 2000, "         ▏"),
        (990, 10, "         ▏"),
    ],
)
def test_a_bar(offset_ms: int, duration_ms: int, drawn: str) -> None:
    assert bar(offset_ms, duration_ms, 1000, 10) == drawn


def test_the_whole_is_what_was_built_not_the_years_after() -> None:
    entries = [
        events.TimelineEntry(offset_ms=0, title="InstanceCreated"),
        events.TimelineEntry(offset_ms=100, duration_ms=400, title="spawn"),
        events.TimelineEntry(offset_ms=10_000_000, title="PortAddressSeen"),
    ]
    assert span_ms(entries) == 500
    assert span_ms(entries[:1]) == 0
    assert bar(0, 0, 0, 10) == "▏"


@pytest.mark.parametrize("columns", [60, 80, 110, 160])
def test_it_fits_the_terminal_and_keeps_what_matters(columns: int) -> None:
    timeline = events.Timeline()
    timeline.entries.add(offset_ms=12, duration_ms=1500, title="spawn", detail="image downloaded", source="conductor")
    console = Console(width=columns, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as captured:
        console.print(waterfall(timeline, columns))
    lines = captured.get().splitlines()
    assert max(len(line) for line in lines) <= columns
    assert "+12 ms" in lines[2] and "1.50 s" in lines[2] and "spawn" in lines[2]
    assert ("conductor" in lines[2]) == (columns >= 100)
