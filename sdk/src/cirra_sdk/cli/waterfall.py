"""A timeline as a waterfall: when each thing began, how long it took, what it was and who did it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cirra_sdk.cli.text import duration_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cirra.events.v1.events_pb2 import Timeline, TimelineEntry

# Terminal columns → bar's width: the bars give way first, then who did it.
_WIDE, _NARROW = 140, 100
_BAR_WIDE, _BAR, _BAR_NARROW = 32, 20, 10
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_POINT = "▏"


def waterfall(timeline: Timeline, columns: int) -> RenderableType:
    """A row per entry. The bars' width is the time from the creation of the thing until the last step ended; what came
    long after (a delete, a week later) stands at the right edge. *columns*: the terminal's.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    width = _BAR_WIDE if columns >= _WIDE else _BAR if columns >= _NARROW else _BAR_NARROW
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("Time", no_wrap=True, justify="right", min_width=8)
    table.add_column("", no_wrap=True, width=width)
    table.add_column("Duration", no_wrap=True, justify="right", min_width=8)
    table.add_column("What", no_wrap=True)
    table.add_column("Detail", overflow="fold")
    if columns >= _NARROW:
        table.add_column("Source", no_wrap=True)
    whole = span_ms(timeline.entries)
    for entry in timeline.entries:
        style = "bold red" if entry.failed else ""
        cells: list[RenderableType] = [
            f"+{duration_text(entry.offset_ms)}",
            Text(bar(entry.offset_ms, entry.duration_ms, whole, width), style=style or "cyan"),
            duration_text(entry.duration_ms) if entry.duration_ms else "",
            Text(entry.title, style=style),
            Text(entry.detail),
            Text(entry.source, style="dim"),
        ]
        table.add_row(*cells[: len(table.columns)])
    return table


def span_ms(entries: Iterable[TimelineEntry]) -> int:
    """From the first entry to the end of the last step; without steps, to the last entry."""
    known = list(entries)
    steps = [entry.offset_ms + entry.duration_ms for entry in known if entry.duration_ms]
    return max(steps or [entry.offset_ms for entry in known], default=0)


def bar(offset_ms: int, duration_ms: int, whole_ms: int, width: int) -> str:
    """*duration_ms* drawn to an eighth of a cell, at its place in *whole_ms*; at least a thin mark."""
    if whole_ms <= 0:
        return _POINT
    eighths = 8 * width
    begin = min(round(offset_ms / whole_ms * eighths), eighths - 1)
    length = min(round(duration_ms / whole_ms * eighths), eighths - begin)
    # A block can be begun only at a cell's left edge.
    cells, rest = divmod(max(length, 1), 8)
    lead = min(begin // 8, width - cells - (1 if rest else 0))
    return " " * lead + _EIGHTHS[8] * cells + (_EIGHTHS[rest] if rest else "")
