"""The `cirra` command: nouns and their verbs, and the options that come before them."""

from __future__ import annotations

import os
from typing import Annotated

import typer
from typer.completion import completion_init

from cirra_sdk.cli.command import Globals, command
from cirra_sdk.cli.commands import (
    completion,
    compute,
    history,
    host,
    identity,
    image,
    network,
    operation,
    placement,
    port,
    router,
    security_group,
    server,
    session,
    subnet,
)

# Imported for what they add to `network` and `server`.
from cirra_sdk.cli.commands import diagnosis as _diagnosis  # noqa: F401
from cirra_sdk.cli.commands import server_actions as _server_actions  # noqa: F401
from cirra_sdk.cli.completing import clouds, names_of

app = typer.Typer(
    name="cirra",
    no_args_is_help=True,
    # `cirra completion` prints it: one way to do it, which completes words with `=` and spaces too.
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)


@app.callback()
def root(
    ctx: typer.Context,
    cloud: Annotated[
        str, typer.Option("--cloud", metavar="NAME", help="A cloud of clouds.yaml.", autocompletion=clouds)
    ] = "",
    project: Annotated[
        str,
        typer.Option("--project", metavar="NAME", help="The project to work in.", autocompletion=names_of("projects")),
    ] = "",
    user: Annotated[
        str, typer.Option("--user", metavar="NAME", help="Whom to work as.", autocompletion=names_of("users"))
    ] = "",
) -> None:
    """Cirra: virtual machines, images, networks. Data goes to stdout, all else to stderr.

    Which cloud: --cloud, CIRRA_CLOUD, CIRRA_ENDPOINT and its kin, or the one in clouds.yaml.

    Exit codes: 0 done, 1 the cloud refused or failed, 2 wrong usage, 3 not found, 4 the cloud does not answer, 5 what
    was diagnosed is not well.
    """
    ctx.obj = Globals(cloud, project, user)


server.app.add_typer(placement.server_groups)
for noun in (
    server.app,
    image.app,
    compute.flavors,
    compute.key_pairs,
    network.networks,
    subnet.subnets,
    port.ports,
    router.routers,
    router.floating_ips,
    security_group.security,
    operation.operations,
    operation.events,
    identity.projects,
    identity.users,
    identity.quotas,
    host.hosts,
    host.services,
    placement.aggregates,
    placement.availability,
    placement.placement,
    session.tokens,
):
    app.add_typer(noun)
# What the API calls it.
app.add_typer(server.app, name="instance", hidden=True)
# What it is.
app.add_typer(operation.operations, name="saga", hidden=True)
# What a newcomer tries.
app.add_typer(operation.events, name="events", hidden=True)
command(app, "timeline")(operation.show_timeline)
command(app, "get")(history.get)
command(app, "diff")(history.diff)
command(app, "audit")(history.audit)
app.command("completion")(completion.completion)
command(app, "login")(session.login)
command(app, "logout")(session.logout)


def main() -> None:
    """The entry point."""
    if "_CIRRA_COMPLETE" in os.environ:
        # What `add_completion` would have done: the shells that typer knows.
        completion_init()
    app(prog_name="cirra")
