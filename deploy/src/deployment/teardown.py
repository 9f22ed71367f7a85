"""`down`: nothing of Cirra is left running on this machine, whatever state it was in; the data stay."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from core.errors import CirraError
from deployment.config import Config
from deployment.foreign_libvirt import remove_guests
from deployment.layout import Layout
from deployment.lock import supervisor_pid
from deployment.machine import holder, taken_by
from deployment.outside import Outside
from deployment.process import Watched
from deployment.servers import OwnServers, own_servers
from deployment.services import command
from deployment.settings import inherited_environment
from deployment.supervisor import end_leftovers
from deployment.testbed.site import Site

_SUPERVISOR_GRACE_S = 100.0
_CLEANUP_TIMEOUT_S = 120.0


class DownFailed(CirraError):
    """Something is left; the message says what."""

    reason = "DOWN_FAILED"


async def tear_down(layout: Layout, config: Config, tell: Callable[[str], None]) -> None:
    """Ends services, guests, networks, libvirtd, NATS and Postgres, in this order. Safe to repeat.

    Raises DownFailed, and MachineTaken when networks would have to go while another deployment has some here.
    """
    await end_services(layout, tell)
    own = own_servers(layout, config)
    if (site := Site.of(layout, config)) is not None:
        tell(f"powering off {len(site.hosts)} hosts")
        await site.remove()
    else:
        tell("ending this host's guests")
        await _end_guests(own, config)
    if any(layout.networks.glob("*")):
        tell("taking down networks")
        if (other := holder()) is not None:
            # It is not ours any more, and what is cleaned up by its marks would be the other's, too.
            raise taken_by(other)
        await _remove_networks(layout)
    await Outside(layout).remove()
    await _end_servers(own)
    layout.status.unlink(missing_ok=True)


async def _end_guests(own: OwnServers, config: Config) -> None:
    if own.libvirtd is not None:
        await asyncio.to_thread(own.libvirtd.stop, destroy_guests=True)
    else:
        await asyncio.to_thread(remove_guests, config.external.libvirt_uri)


async def stop_around_guests(layout: Layout, config: Config, tell: Callable[[str], None]) -> None:
    """Ends services, libvirtd, NATS and Postgres; guests and their networks go on. Safe to repeat.

    Hosts of a testbed stay on, agents included.
    """
    await end_services(layout, tell)
    own = own_servers(layout, config)
    if own.libvirtd is not None:
        await asyncio.to_thread(own.libvirtd.stop)
    await _end_servers(own)
    layout.status.unlink(missing_ok=True)


async def end_services(layout: Layout, tell: Callable[[str], None]) -> None:
    """The supervisor ends what it has started; then what one of before has left."""
    pid = supervisor_pid(layout)
    if pid is not None:
        tell("stopping the services")
        with contextlib.suppress(ProcessLookupError):
            await Watched(pid).end(_SUPERVISOR_GRACE_S)
    for left in await end_leftovers(layout):
        tell(f"ended process {left}, which no supervisor watched")


async def _end_servers(own: OwnServers) -> None:
    for server in (own.nats, own.postgres):
        if server is not None and server.adopt():
            await server.stop()


async def _remove_networks(layout: Layout) -> None:
    """By the net-agent's own means: it knows what it made. Raises DownFailed."""
    environment = {**inherited_environment(), "CIRRA_STATE_DIRECTORY": str(layout.agent_state)}
    process = await asyncio.create_subprocess_exec(
        str(command("net-agent")),
        "--cleanup",
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd="/",
    )
    try:
        async with asyncio.timeout(_CLEANUP_TIMEOUT_S):
            output, _ = await process.communicate()
    except TimeoutError as error:
        os.kill(process.pid, signal.SIGKILL)
        raise DownFailed(f"networks were not removed in {_CLEANUP_TIMEOUT_S:g} s") from error
    if process.returncode != 0:
        raise DownFailed(f"networks were not removed:\n{output.decode(errors='replace').strip()}")


def purge(layout: Layout) -> None:
    """Deletes the state folder: events, images, guests' disks, keys. Raises DownFailed if it isn't one."""
    if not layout.root.exists():
        return
    if not _is_state_folder(layout.root):
        raise DownFailed(f"{layout.root} does not look like a deployment's folder: not deleted")
    shutil.rmtree(layout.root)


def _is_state_folder(root: Path) -> bool:
    return Layout(root).record.exists()
