"""How a person sees a walked path: a line per hop, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from cirra.network.v1 import diagnosis_pb2 as pb
from cirra_sdk.cli.output import Column, list_table

if TYPE_CHECKING:
    from rich.console import RenderableType

_MARKS = {
    pb.HOP_STATE_OK: ("✓", "green"),
    pb.HOP_STATE_BROKEN: ("✗", "bold red"),
    pb.HOP_STATE_UNKNOWN: ("?", "yellow"),
    pb.HOP_STATE_NOT_APPLICABLE: ("-", "dim"),
}
_TRACE = (
    Column("Where", lambda sighting: sighting.place),
    Column("Interface", lambda sighting: sighting.device),
    Column("Probe", lambda sighting: "seen" if sighting.probe_seen else "-"),
    Column("Answer", lambda sighting: "seen" if sighting.answer_seen else "-"),
)


def diagnosis_tables(found: pb.Diagnosis) -> Iterator[RenderableType]:
    """Port by port, then the traces, then the verdict."""
    for (port, host), hops in groupby(found.hops, lambda hop: (hop.port, hop.host)):
        if port:
            yield f"Port {port} on {host}" if host else f"Port {port}"
        yield _hops(list(hops))
        yield ""
    for trace in found.traces:
        yield f"{trace.probe} of port {trace.port}:"
        yield list_table(trace.sightings, _TRACE)
        yield ""
    yield from _verdict(found.verdict)


def _hops(hops: list[pb.Hop]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for hop in hops:
        mark, style = _MARKS.get(hop.state, ("?", "yellow"))
        arrow = "← " if hop.direction == pb.HOP_DIRECTION_INWARD else ""
        table.add_row(Text(mark, style=style), Text(f"{arrow}{hop.name}"), Text(hop.observed))
    return table


def _verdict(verdict: pb.Verdict) -> Iterator[RenderableType]:
    from rich.text import Text

    hop = verdict.hop
    if verdict.state == pb.HOP_STATE_BROKEN:
        where = f"{hop.name} on {hop.host}" if hop.host else hop.name
        yield Text(f"broken at {where}: {hop.observed} ({hop.reason})", style="bold red")
        yield Text(f"remedy: {hop.remedy}")
    elif verdict.state == pb.HOP_STATE_UNKNOWN:
        yield Text(f"nothing seen to be broken, but {hop.name} is unknown: {hop.observed} ({hop.reason})")
    else:
        yield Text("nothing is broken")
