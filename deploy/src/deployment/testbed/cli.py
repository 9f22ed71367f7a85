"""`cirra-deploy host …`: hosts of a testbed, as one who stands in front of them has them in hand."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

import typer

from core.errors import CirraError
from deployment.config import Config
from deployment.outside import Outside
from deployment.render import console, table
from deployment.settings import DeploySettings
from deployment.terminal import StateDir, clear_errors, layout_of, require_root, tell
from deployment.testbed.host import Host
from deployment.testbed.plan import OUTSIDE_NAME
from deployment.testbed.site import Site

hosts_app = typer.Typer(
    help="Hosts of `make up HOSTS=3`: enter them, pull their plugs.", no_args_is_help=True, add_completion=False
)

Name = Annotated[str, typer.Argument(metavar="HOST", help="host-1, host-2, …")]
_SHELL = ("bash", "--norc", "-i")


@hosts_app.command("list")
def list_hosts(state_dir: StateDir = None) -> None:
    """Which there are, and whether they have power."""
    with clear_errors():
        rows = ((host.name, str(host.plan.address.ip), _state(host)) for host in _site(state_dir).hosts)
        console().print(table("Hosts on this machine", ("host", "underlay", "power"), rows))


@hosts_app.command(context_settings={"ignore_unknown_options": True})
def shell(
    place: Annotated[str, typer.Argument(help="A host, outside (the Internet), or office (a LAN at the provider)")],
    command: Annotated[list[str] | None, typer.Argument(help="What to run there [default: a shell]")] = None,
    state_dir: StateDir = None,
) -> None:
    """Run a command there; its exit code is ours. `virsh` finds the host's own libvirtd."""
    with clear_errors():
        require_root()
        program = command or _SHELL
        environment = {**os.environ, "PS1": f"{place}# "}
        layout = layout_of(state_dir, DeploySettings())
        if place == OUTSIDE_NAME and (alone := Outside(layout)).exists:
            line = alone.enter(*program)
            os.execvpe(line[0], line, environment)
        site = _site(state_dir)
        line = site.enter(place, *program)
        if place in (host.name for host in site.hosts):
            environment["LIBVIRT_DEFAULT_URI"] = site.host(place).inner_libvirt_uri
        os.execvpe(line[0], line, environment)


@hosts_app.command("power-off")
def power_off(name: Name, state_dir: StateDir = None) -> None:
    """Everything on it ends at once, as when its power fails; its disk stays."""
    with clear_errors():
        asyncio.run(_host(name, state_dir).power_off())
        tell(f"{name} is off")


@hosts_app.command("power-on")
def power_on(name: Name, state_dir: StateDir = None) -> None:
    """A boot; returns when its agents run."""
    with clear_errors():
        asyncio.run(_host(name, state_dir).power_on())
        tell(f"{name} is on")


@hosts_app.command()
def cut(name: Name, state_dir: StateDir = None) -> None:
    """Pull its plug on the underlay."""
    with clear_errors():
        asyncio.run(_host(name, state_dir).cut())
        tell(f"{name} is off the underlay")


@hosts_app.command()
def join(name: Name, state_dir: StateDir = None) -> None:
    """Put the plug in again."""
    with clear_errors():
        asyncio.run(_host(name, state_dir).join())
        tell(f"{name} is on the underlay")


@hosts_app.command()
def pause(name: Name, state_dir: StateDir = None) -> None:
    """Everything on it stops where it is."""
    with clear_errors():
        _host(name, state_dir).pause()
        tell(f"{name} is paused")


@hosts_app.command()
def resume(name: Name, state_dir: StateDir = None) -> None:
    """It goes on."""
    with clear_errors():
        _host(name, state_dir).resume()
        tell(f"{name} goes on")


def _host(name: str, state_dir: StateDir) -> Host:
    require_root()
    return _site(state_dir).host(name)


def _site(state_dir: StateDir) -> Site:
    layout = layout_of(state_dir, DeploySettings())
    site = Site.of(layout, Config.load(layout))
    if site is None:
        raise CirraError("this machine is the only host here", remedy="for several: make up HOSTS=3")
    return site


def _state(host: Host) -> str:
    if not host.is_on:
        return "off"
    return "paused" if host.is_paused else "on"
