"""`cirra get`, `cirra diff` and `cirra audit`: how things were, what changed, and who did it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cirra_sdk.cli import named, options
from cirra_sdk.cli.command import Session
from cirra_sdk.cli.completing import EVERYTHING, names_of
from cirra_sdk.cli.report import UsageError
from cirra_sdk.cli.resource import as_it_is, as_it_was, content, resource_name
from cirra_sdk.cli.text import parse_time
from cirra_sdk.cli.waiting import take
from cirra_sdk.errors import NotFound

if TYPE_CHECKING:
    from cirra.events.v1.events_pb2 import Event, ResourceAsOf
    from cirra_sdk.cli.changes import Span


async def get(session: Session, *, resource: named.Resource, as_of: options.AsOf = "") -> None:
    """Show a thing of any kind, as it is or as it was, from the log; also one that is deleted now."""
    when = options.moment_or_position(as_of, "--as-of")
    name = await resource_name(session, resource)
    session.output.resource(content(await as_it_was(session, name, when)) if when else await as_it_is(session, name))


async def diff(
    session: Session,
    *,
    resource: named.Resource,
    from_: Annotated[
        str, typer.Option("--from", metavar="TIME", help="2026-01-31T12:00:00Z, 10m (ago), or a position of the log.")
    ],
    to: Annotated[str, typer.Option("--to", metavar="TIME", help="Written alike; now unless told.")] = "",
) -> None:
    """Show what of a thing changed between two times, field by field, and the events that changed it, with who did."""
    from cirra_sdk.cli.changes import Difference, Span, changes, shown

    begin, end = options.moment_or_position(from_, "--from"), options.moment_or_position(to, "--to")
    if begin is None:
        raise UsageError("--from is empty: give a time, such as 10m for ten minutes ago")
    if isinstance(begin, datetime) and begin > parse_time("now"):
        raise UsageError("--from is in the future", remedy="give a time that was, such as 10m for ten minutes ago")
    if not Span(begin, end).is_forward:
        raise UsageError("--from is after --to", remedy="change them round")
    name = await resource_name(session, resource)
    before, after = await _past(session, name, begin), await _past(session, name, end)
    if before is None and after is None:
        raise NotFound(
            "NOT_FOUND", f"there was no {resource} at either time", f"give other times: cirra timeline {resource}"
        )
    span = Span(before.position if before else begin, after.position if after else end)
    if not span.is_forward:
        raise UsageError("--from is after --to", remedy="change them round")
    old, new = (content(past) if past else None for past in (before, after))
    events = await _events(session, name, span, [old, new])
    shown(session, Difference(name, span, changes(old, new), events, existed=bool(old), exists=bool(new)))


async def audit(
    session: Session,
    *,
    resource: Annotated[
        str,
        typer.Argument(
            metavar="[RESOURCE]", help="Only on this: a name, or a uid.", autocompletion=names_of(*EVERYTHING)
        ),
    ] = "",
    actor: Annotated[
        str,
        typer.Option("--actor", metavar="USER", help="Only by this user (or part).", autocompletion=names_of("users")),
    ] = "",
    project: Annotated[
        str,
        typer.Option("--project", help="Only in this project (administrators).", autocompletion=names_of("projects")),
    ] = "",
    method: Annotated[
        str, typer.Option("--method", metavar="PATTERN", help="Only what asked for this: DeleteInstance, 'Delete*'.")
    ] = "",
    since: Annotated[str, typer.Option("--since", metavar="TIME", help="From then on; the log's beginning: 0.")] = "1d",
    until: Annotated[str, typer.Option("--until", metavar="TIME", help="Up to then; now unless told.")] = "",
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=0, help="The last so many; 0: all.")] = 0,
) -> None:
    """List who asked for what when: each request that changed something, of your project or (administrators) all."""
    from cirra_sdk.cli.audit import actor_uid, fits, people, requests
    from cirra_sdk.cli.changes import Span
    from cirra_sdk.cli.tables import AUDIT

    begin = None if since in ("", "0") else options.moment_or_position(since, "--since")
    span = Span(begin or 0, options.moment_or_position(until, "--until"))
    if not span.is_forward:
        raise UsageError("--since is after --until", remedy="change them round")
    found = session.client.events.list(
        resource=await resource_name(session, resource),
        actor=await actor_uid(session.client, actor),
        project=project,
        requests_only=True,
        **span.begin_as_filter(),
    )
    asked = [request for request in requests(await take(found, 0, until=span.is_over)) if fits(request, method)]
    shown = asked[-limit:]
    names = await people(session.client, {request.actor for request in shown})
    session.output.records([request.record(names) for request in shown], AUDIT)
    if begin is not None and session.output.is_table:
        session.output.note(f"since {since}; --since 0 has all")


async def _past(session: Session, name: str, when: datetime | int | None) -> ResourceAsOf | None:
    try:
        return await as_it_was(session, name, when)
    except NotFound:
        return None


async def _events(session: Session, name: str, span: Span, states: list[Any]) -> list[Event]:
    """Those of the thing, and of its ports: a server's addresses are theirs."""
    nics = [nic for state in states for nic in getattr(state, "nics", ())]
    found: list[Event] = []
    for each in (name, *sorted({nic.port for nic in nics if nic.port})):
        found += await take(session.client.events.list(resource=each, **span.begin_as_filter()), 0, until=span.is_over)
    return sorted(found, key=lambda event: event.position)
