"""`cirra network diagnose`."""

from __future__ import annotations

from typing import Annotated

import typer

from cirra_sdk.cli.command import Session, command
from cirra_sdk.cli.commands.network import networks
from cirra_sdk.cli.completing import names_of
from cirra_sdk.cli.report import EXIT_BROKEN, UsageError


@command(networks, "diagnose")
async def diagnose(
    session: Session,
    *,
    name: Annotated[
        str,
        typer.Argument(metavar="[SERVER]", help="A name or a uid.", autocompletion=names_of("instances")),
    ] = "",
    port: Annotated[
        str, typer.Option(metavar="PORT", help="Only this one of its ports.", autocompletion=names_of("ports"))
    ] = "",
    to: Annotated[
        str, typer.Option("--to", metavar="PROTOCOL/PORT", help="What others want from it: tcp/22, udp/53, icmp.")
    ] = "",
    from_cidr: Annotated[
        str, typer.Option("--from", metavar="CIDR", help="With --to: where those others are; anywhere unless told.")
    ] = "",
    peer: Annotated[
        str,
        typer.Option(
            metavar="SERVER",
            help="Whom it doesn't reach, or who doesn't reach it: its host is asked for its side.",
            autocompletion=names_of("instances"),
        ),
    ] = "",
    capture: Annotated[bool, typer.Option("--capture", help="Follow probes from interface to interface.")] = False,
) -> None:
    """Walk the path of a server's packets on its host, hop by hop, and name what is broken (administrators)."""
    from cirra.network.v1.diagnosis_pb2 import HOP_STATE_BROKEN, HOP_STATE_UNKNOWN
    from cirra_sdk.cli.diagnosis_view import diagnosis_tables

    if not name and not port:
        raise UsageError("of what? give a server, or --port")
    found = await session.client.diagnosis.diagnose(
        name, port=port, to=to, from_cidr=from_cidr, capture=capture, peer=peer
    )
    session.output.resource(found, *diagnosis_tables(found))
    if found.verdict.state in (HOP_STATE_BROKEN, HOP_STATE_UNKNOWN):
        raise typer.Exit(EXIT_BROKEN)
