"""Tables for the terminal; plain text when it isn't one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deployment.overview import LogState, ProcessRow

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400


def console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def process_table(rows: Iterable[ProcessRow]) -> Table:
    cells = (
        (
            row.name,
            "" if row.pid is None else str(row.pid),
            row.state,
            "" if row.uptime_s is None else duration(row.uptime_s),
            str(row.restarts),
            "yes" if row.healthy else "NO",
            row.last_end,
        )
        for row in rows
    )
    return table("Processes", ("process", "pid", "state", "up", "restarts", "healthy", "last end"), cells)


def projection_table(state: LogState) -> Table:
    cells = (
        (
            row.schema,
            row.name,
            str(row.position),
            str(row.behind),
            "" if row.halted_at is None else f"halted at {row.halted_at}: {row.error}",
        )
        for row in state.projections
    )
    title = f"Event log: position {state.position}, epoch {state.epoch}"
    return table(title, ("schema", "projection", "position", "behind", "trouble"), cells)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    made = Table(*columns, title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for row in rows:
        # What comes from elsewhere is not markup.
        made.add_row(*(Text(cell) for cell in row))
    return made


def duration(seconds: float) -> str:
    """`95.2` → `1m35s`: two units at most."""
    whole = int(seconds)
    if whole >= _DAY_S:
        return f"{whole // _DAY_S}d{whole % _DAY_S // _HOUR_S}h"
    if whole >= _HOUR_S:
        return f"{whole // _HOUR_S}h{whole % _HOUR_S // _MINUTE_S}m"
    if whole >= _MINUTE_S:
        return f"{whole // _MINUTE_S}m{whole % _MINUTE_S}s"
    return f"{whole}s"
