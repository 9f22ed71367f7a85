"""Where an instance of the demo is: on this machine, or on one of the hosts that it holds."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from cirra.compute.v1.compute_pb2 import Instance
from cirra_sdk import AsyncClient
from core.ids import last_segment
from deployment.config import Config
from deployment.layout import Layout
from deployment.outside import Outside
from deployment.servers import servers
from deployment.testbed.plan import OUTSIDE_NAME
from deployment.testbed.site import Site

_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Place:
    """`layout`: the host's, as seen from here. `onto`: leads onto it: a command that takes another."""

    layout: Layout
    libvirt_uri: str
    onto: tuple[str, ...] = ()

    def names(self, *command: str) -> set[str]:
        """The first word of each line that the command prints there. Raises CalledProcessError, TimeoutExpired."""
        line = [*self.onto, *command]
        done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S, check=True)
        return {words[0] for words in map(str.split, done.stdout.decode().splitlines()) if words}


def this_machine(layout: Layout, config: Config) -> Place:
    return Place(layout, servers(layout, config).libvirt_uri)


def outside_of(layout: Layout, config: Config) -> tuple[str, ...]:
    """A command that takes another, and runs it in the Internet; empty: there is none of ours."""
    site, outside = Site.of(layout, config), Outside(layout)
    if site is not None:
        return tuple(site.enter(OUTSIDE_NAME))
    return tuple(outside.enter()) if outside.exists else ()


async def place_of(layout: Layout, config: Config, admin: AsyncClient, instance: Instance) -> Place:
    """Members are not told their hosts: *admin* is."""
    site = Site.of(layout, config)
    if site is None:
        return this_machine(layout, config)
    host = site.host(last_segment((await admin.instances.get(instance.name)).host))
    return Place(host.layout, host.libvirt_uri, tuple(host.enter()))
