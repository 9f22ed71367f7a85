"""`cirra-deploy`: up, down, status, rebuild, env, demo."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from core.errors import CirraError
from deployment import teardown as ending
from deployment.config import Config, NotDeployed, configure
from deployment.launch import run_supervisor, start_in_background
from deployment.layout import Layout
from deployment.libvirtd import LibvirtdError
from deployment.settings import DeploySettings

app = typer.Typer(
    name="cirra-deploy",
    help="Cirra on this machine: every service and this host's agents under one supervisor.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

StateDir = Annotated[
    Path | None, typer.Option("--state-dir", help="Where everything is kept [default: /var/lib/cirra/dev]")
]


@app.command()
def up(
    state_dir: StateDir = None,
    replicas: Annotated[int | None, typer.Option(min=1, max=9, help="Of each service of the control plane")] = None,
    cell: Annotated[str | None, typer.Option(help="Name of the cell, at the first start [default: main]")] = None,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay; stop everything at Ctrl-C")] = False,
) -> None:
    """Start everything that doesn't run yet, and wait until it is ready."""
    with clear_errors():
        require_root()
        settings = DeploySettings()
        layout = _layout(state_dir, settings)
        layout.prepare()
        config = configure(layout, settings, cell=cell, replicas=replicas)
        if foreground:
            raise typer.Exit(run_supervisor(layout, config))
        start_in_background(layout, tell)
        tell(f"Cirra is up: {layout.root}")


@app.command(hidden=True)
def supervise(state_dir: StateDir = None) -> None:
    """What `up` puts into the background."""
    with clear_errors():
        layout = _layout(state_dir, DeploySettings())
        raise typer.Exit(run_supervisor(layout, Config.load(layout)))


@app.command()
def down(
    state_dir: StateDir = None,
    purge: Annotated[bool, typer.Option("--purge", help="Delete the state folder, too")] = False,
) -> None:
    """Stop everything; no guest, network, process or rule of Cirra's is left. Data stay, unless --purge."""
    with clear_errors():
        require_root()
        layout = _layout(state_dir, DeploySettings())
        try:
            config = Config.load(layout)
        except NotDeployed:
            tell(f"nothing to stop: no deployment in {layout.root}")
            return
        asyncio.run(ending.tear_down(layout, config, tell))
        if purge:
            ending.purge(layout)
        tell("Cirra is down")


def tell(line: str) -> None:
    """Progress goes to standard error, results to standard output."""
    typer.echo(line, err=True)


def require_root() -> None:
    if os.geteuid() != 0:
        raise CirraError("this needs root: guests, bridges and namespaces are made", remedy="sudo make …")


@contextmanager
def clear_errors() -> Iterator[None]:
    """One line says what went wrong, the next what to do."""
    try:
        yield
    except (CirraError, LibvirtdError, OSError) as error:
        tell(f"error: {error}")
        if isinstance(error, CirraError) and error.remedy:
            tell(f"→ {error.remedy}")
        sys.exit(1)


def _layout(state_dir: Path | None, settings: DeploySettings) -> Layout:
    return Layout((state_dir or settings.state_dir).absolute())
