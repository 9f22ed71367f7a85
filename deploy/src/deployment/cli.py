"""`cirra-deploy`: up, down, status, backup, restore, rebuild, restored, env, demo."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path
from typing import Annotated

import typer

from core.agent import identity as identities
from core.errors import CirraError
from deployment import teardown as ending
from deployment.backup import back_up
from deployment.backup import restore as put_back
from deployment.clouds import CLOUD
from deployment.config import Config, NotDeployed, configure
from deployment.demo import DemoOptions, run_demo
from deployment.guests import GUEST_KINDS
from deployment.launch import run_supervisor, start_in_background
from deployment.layout import Layout
from deployment.lock import AlreadyRunning, is_locked
from deployment.rebuild import after_restore, rebuild_all
from deployment.render import console
from deployment.report import report
from deployment.servers import servers
from deployment.services import ServiceTable
from deployment.settings import DeploySettings, inherited_environment
from deployment.terminal import StateDir, clear_errors, layout_of, require_root, tell
from deployment.testbed.cli import hosts_app
from deployment.testbed.plan import MOST_HOSTS

app = typer.Typer(
    name="cirra-deploy",
    help="Cirra on this machine: every service and this host's agents under one supervisor.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(hosts_app, name="host")


@app.command()
def up(
    state_dir: StateDir = None,
    replicas: Annotated[int | None, typer.Option(min=1, max=9, help="Of each service of the control plane")] = None,
    hosts: Annotated[
        int | None, typer.Option(min=1, max=MOST_HOSTS, help="1: this machine. More: so many that it holds, apart")
    ] = None,
    cell: Annotated[str | None, typer.Option(help="Name of the cell, at the first start [default: main]")] = None,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay; stop everything at Ctrl-C")] = False,
) -> None:
    """Start everything that doesn't run yet, and wait until it is ready."""
    with clear_errors():
        require_root()
        if foreground:
            raise typer.Exit(run_supervisor(*_configured(state_dir, cell, replicas, hosts)))
        layout, _ = _up(state_dir, cell, replicas, hosts)
        tell(f"Cirra is up: {layout.root}")


@app.command(hidden=True)
def supervise(state_dir: StateDir = None) -> None:
    """What `up` puts into the background."""
    with clear_errors():
        layout = layout_of(state_dir, DeploySettings())
        raise typer.Exit(run_supervisor(layout, Config.load(layout)))


@app.command()
def down(
    state_dir: StateDir = None,
    purge: Annotated[bool, typer.Option("--purge", help="Delete the state folder, too")] = False,
    keep_guests: Annotated[bool, typer.Option("--keep-guests", help="Guests and their networks go on")] = False,
) -> None:
    """Stop everything; no guest, network, process or rule of Cirra's is left. Data stay, unless --purge."""
    with clear_errors():
        require_root()
        if purge and keep_guests:
            raise CirraError("guests can't be kept without their disks", remedy="leave out --purge or --keep-guests")
        layout = layout_of(state_dir, DeploySettings())
        try:
            config = Config.load(layout)
        except NotDeployed:
            tell(f"nothing to stop: no deployment in {layout.root}")
            return
        if keep_guests:
            asyncio.run(ending.stop_around_guests(layout, config, tell))
            tell("Cirra is down; guests go on")
            return
        asyncio.run(ending.tear_down(layout, config, tell))
        if purge:
            ending.purge(layout)
        tell("Cirra is down")


@app.command()
def status(state_dir: StateDir = None) -> None:
    """Show what runs, how far projections are behind the log, hosts, what is stuck. Exit code 1: not all is well."""
    with clear_errors():
        layout = layout_of(state_dir, DeploySettings())
        if not asyncio.run(report(layout, Config.load(layout), console())):
            raise typer.Exit(1)


@app.command()
def rebuild(state_dir: StateDir = None) -> None:
    """Drop the read models and build them again from the event log."""
    with clear_errors():
        require_root()
        layout = layout_of(state_dir, DeploySettings())
        config = Config.load(layout)
        table = ServiceTable(layout, config, servers(layout, config), inherited_environment())
        asyncio.run(rebuild_all(layout, table, typer.echo))


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="Where to put it; must not exist")], state_dir: StateDir = None
) -> None:
    """Copy what can't be made again: the event log, contents of images, keys. While running; hosts are not in it."""
    with clear_errors():
        require_root()
        layout = layout_of(state_dir, DeploySettings())
        asyncio.run(back_up(layout, Config.load(layout), folder.absolute(), tell))
        tell(f"backed up: {folder.absolute()}")


@app.command()
def restore(folder: Annotated[Path, typer.Argument(help="What `backup` made")], state_dir: StateDir = None) -> None:
    """Put a backup of the event log and of images in place, while Cirra is down; then: up, and look at the hosts."""
    with clear_errors():
        require_root()
        layout = layout_of(state_dir, DeploySettings())
        asyncio.run(put_back(layout, Config.load(layout), folder.absolute(), tell))
        tell("next: make up, `cirra host list`, `cirra host differences HOST`, `cirra host accept HOST`")


@app.command()
def restored(
    state_dir: StateDir = None,
    above: Annotated[int, typer.Option(min=0, help="An epoch that hosts say they have acted in")] = 0,
) -> None:
    """Say that Postgres was restored from a backup, when Cirra can't have noticed: a new epoch, all derived data anew.

    Hosts are observe-only then, until what differs there is accepted: `cirra host differences`, `cirra host accept`.
    """
    with clear_errors():
        require_root()
        layout = layout_of(state_dir, DeploySettings())
        config = Config.load(layout)
        table = ServiceTable(layout, config, servers(layout, config), inherited_environment())
        asyncio.run(after_restore(layout, config, table, above, typer.echo))


@app.command()
def env(state_dir: StateDir = None) -> None:
    """Print what lets `cirra` and `virsh` find this deployment: eval "$(make -s env)"."""
    with clear_errors():
        layout = layout_of(state_dir, DeploySettings())
        config = Config.load(layout)
        variables = {"CIRRA_CLOUDS_FILE": str(layout.clouds), "CIRRA_CLOUD": CLOUD}
        if config.has_testbed:
            variables["CIRRA_STATE_DIR"] = str(layout.root)
        else:
            variables["LIBVIRT_DEFAULT_URI"] = servers(layout, config).libvirt_uri
        for name, value in variables.items():
            typer.echo(f"export {name}={shlex.quote(value)}")
        if config.has_testbed:
            typer.echo("# onto a host, or into the networks around them: cirra-deploy host shell host-1|outside|office")


@app.command()
def enroll(
    host: Annotated[str, typer.Argument(help="The name that the token was made for")],
    gateway: Annotated[str, typer.Option(help="host:port of the API")],
    ca_file: Annotated[Path, typer.Option("--ca-file", help="The cloud's root certificate")],
    token_file: Annotated[Path, typer.Option("--token-file", help="What `cirra host enroll-token` gave")],
    folder: Annotated[Path, typer.Option(help="Where the host's identity is kept")] = Path("/var/lib/cirra/host"),
) -> None:
    """Make this machine a host of a cloud that runs elsewhere: its identity, for the agents to use."""
    with clear_errors():
        identity = asyncio.run(identities.enroll(gateway, ca_file, host, token_file.read_text().strip(), folder))
        tell(f"{identity.host} is enrolled in cell {identity.cell}: {identity.folder}")


@app.command()
def demo(
    state_dir: StateDir = None,
    guest: Annotated[str, typer.Option(help="debian, or tiny (as tests use it; no ssh)")] = "debian",
    delete: Annotated[bool, typer.Option("--delete", help="Delete the instance at the end")] = False,
) -> None:
    """Boot a guest end to end through the public API, log in to it, and tell how it came about."""
    with clear_errors():
        require_root()
        if guest not in GUEST_KINDS:
            raise CirraError(f"there is no guest {guest}", remedy=f"choose one of: {', '.join(GUEST_KINDS)}")
        layout, config = _up(state_dir)
        asyncio.run(run_demo(layout, config, DemoOptions(guest, delete), typer.echo))


def _configured(
    state_dir: Path | None, cell: str | None, replicas: int | None, hosts: int | None
) -> tuple[Layout, Config]:
    settings = DeploySettings()
    layout = layout_of(state_dir, settings)
    layout.prepare()
    if not is_locked(layout):
        return layout, configure(layout, settings, cell=cell, replicas=replicas, hosts=hosts)
    config = Config.load(layout)
    asked = ((cell, config.cell), (replicas, config.replicas), (hosts, config.hosts))
    if any(wish not in (None, is_now) for wish, is_now in asked):
        raise AlreadyRunning(
            f"cell {config.cell} is running here with {config.replicas} of each service, {config.hosts} host(s)",
            remedy="first: make down",
        )
    return layout, config


def _up(
    state_dir: Path | None, cell: str | None = None, replicas: int | None = None, hosts: int | None = None
) -> tuple[Layout, Config]:
    layout, _ = _configured(state_dir, cell, replicas, hosts)
    start_in_background(layout, tell)
    # The supervisor has chosen ports.
    return layout, Config.load(layout)
