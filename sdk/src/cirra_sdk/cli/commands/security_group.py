"""`cirra security group` and `cirra security group rule`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cirra_sdk.cli import named, options
from cirra_sdk.cli.command import Session, command, each, group
from cirra_sdk.cli.completing import names_of, words
from cirra_sdk.cli.report import UsageError
from cirra_sdk.cli.waiting import take

if TYPE_CHECKING:
    from cirra.network.v1.security_group_pb2 import SecurityGroup

security = group("security", "What may pass to and from servers.")
groups = group("group", "What may pass to and from the ports that are in them.")
rules = group("rule", "Each lets something pass; all else is dropped, but the answers to what passed.")
security.add_typer(groups)
groups.add_typer(rules)

Description = Annotated[str, typer.Option("--description", metavar="TEXT", help="For people.")]


@command(groups, "create")
async def create_group(
    session: Session,
    *,
    name: options.NewName,
    description: Description = "",
    no_default_rules: Annotated[
        bool, typer.Option("--no-default-rules", help="Without the rules that let everything out.")
    ] = False,
) -> None:
    """Make a group that lets everything out, and nothing in but the answers."""
    made = await session.client.security_groups.create(
        name, description=description, default_rules=not no_default_rules
    )
    _show(session, made)


@command(groups, "list")
async def list_groups(session: Session, *, limit: options.Limit = 0) -> None:
    """List security groups."""
    from cirra_sdk.cli.tables import SECURITY_GROUPS

    session.output.resources(await take(session.client.security_groups.list(), limit), SECURITY_GROUPS)


@command(groups, "show")
async def show_group(session: Session, *, name: named.SecurityGroup) -> None:
    """Show a security group and its rules."""
    _show(session, await session.client.security_groups.get(name))


@command(groups, "set")
async def set_group(
    session: Session,
    *,
    name: named.SecurityGroup,
    new_name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="What to call it.")] = None,
    description: Annotated[str | None, typer.Option("--description", metavar="TEXT", help="For people.")] = None,
) -> None:
    """Change a group's name or description."""
    if new_name is None and description is None:
        raise UsageError("nothing is to be changed", remedy="give --name or --description")
    changed = await session.client.security_groups.update(name, display_name=new_name, description=description)
    _show(session, changed)


@command(groups, "delete")
async def delete_groups(session: Session, *, names: named.SecurityGroups) -> None:
    """Delete groups that no port is in and no other group's rule names."""
    await each(names, session.client.security_groups.delete)


@command(rules, "create")
async def create_rule(
    session: Session,
    *,
    name: named.SecurityGroup,
    egress: Annotated[bool, typer.Option("--egress/--ingress", help="From the server, or to it (else).")] = False,
    ethertype: Annotated[
        str,
        typer.Option(
            metavar="IPv4|IPv6", help="That of the range; IPv4 without one.", autocompletion=words("IPv4", "IPv6")
        ),
    ] = "",
    protocol: Annotated[
        str,
        typer.Option(
            metavar="PROTOCOL",
            help="tcp, udp, icmp, …, a number, or any (unless told).",
            autocompletion=words("tcp", "udp", "sctp", "icmp", "ipv6-icmp", "any"),
        ),
    ] = "",
    dst_port: Annotated[
        str, typer.Option("--dst-port", metavar="PORT[:PORT]", help="Of the receiver; a range has both ends.")
    ] = "",
    icmp_type: Annotated[int | None, typer.Option(metavar="TYPE", help="Of ICMP: 8 is echo request.")] = None,
    icmp_code: Annotated[int | None, typer.Option(metavar="CODE", help="With its type.")] = None,
    remote_ip: Annotated[
        str, typer.Option("--remote-ip", metavar="CIDR", help="The other end's addresses; any unless told.")
    ] = "",
    remote_group: Annotated[
        str,
        typer.Option(
            "--remote-group",
            metavar="GROUP",
            help="The other end is a port in this group.",
            autocompletion=names_of("security_groups"),
        ),
    ] = "",
    description: Description = "",
) -> None:
    """Let something pass; every server in the group does so within a second."""
    from cirra.network.v1 import security_group_pb2 as pb

    low, high = _ports(dst_port)
    rule = pb.SecurityGroupRule(
        description=description,
        direction=pb.TRAFFIC_DIRECTION_EGRESS if egress else pb.TRAFFIC_DIRECTION_INGRESS,
        ethertype=options.enum(pb.Ethertype, ethertype, "--ethertype"),
        protocol=protocol,
        port_range_min=low,
        port_range_max=high,
        icmp_type=icmp_type,
        icmp_code=icmp_code,
        remote_ip_prefix=remote_ip,
        remote_group=remote_group,
    )
    _show(session, await session.client.security_groups.add_rule(name, rule))


@command(rules, "list")
async def list_rules(session: Session, *, name: named.SecurityGroup) -> None:
    """List a group's rules."""
    from cirra_sdk.cli.tables import SECURITY_GROUP_RULES

    found = await session.client.security_groups.get(name)
    session.output.resources(list(found.rules), SECURITY_GROUP_RULES)


@command(rules, "delete")
async def delete_rules(
    session: Session, *, uids: Annotated[list[str], typer.Argument(metavar="RULE...", help="Uids of rules.")]
) -> None:
    """Delete rules; connections that only they let pass end."""

    async def delete(uid: str) -> None:
        await session.client.security_groups.remove_rule(uid)

    await each(uids, delete)


def _show(session: Session, found: SecurityGroup) -> None:
    from cirra_sdk.cli.output import list_table, pairs_table
    from cirra_sdk.cli.tables import SECURITY_GROUP_RULES

    facts = [("ID", found.uid), ("Name", found.display_name), ("Description", found.description)]
    session.output.resource(found, pairs_table(facts), "", list_table(found.rules, SECURITY_GROUP_RULES))


def _ports(text: str) -> tuple[int, int]:
    """ "22" and "8000:8080"."""
    if not text:
        return 0, 0
    low, colon, high = text.partition(":")
    try:
        return int(low), int(high if colon else low)
    except ValueError as error:
        raise UsageError(f"--dst-port {text!r}: give a port, or a range such as 8000:8080") from error
