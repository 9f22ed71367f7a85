"""The checker of invariants for a real cloud, run in its machine's network: `python -m tests.e2e.soundness STATE_DIR`.

Prints what is still wrong after a while, one line each, and then ends with 1. Guests are looked for in libvirt, blobs
in their folder.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import libvirt

from core.bus import connect
from core.eventlog import EventLog
from core.natsauth.permissions import inbox_prefix
from core.pki.identity import Identity
from core.pki.tls import TlsFiles, client_ssl_context
from core.testing.invariants import Violation, lasting_violations
from core.testing.invariants_hosts import Contents
from deployment.config import Config
from deployment.layout import Layout
from deployment.servers import servers
from deployment.testbed.site import Site
from tests.harness.invariants import cell_under_check

PATIENCE_S = 60.0
_PREFIX = "cirra-"


@dataclass(frozen=True, slots=True)
class LibvirtHost:
    """A host as its hypervisor sees it, whose domains are named `cirra-<instance>`."""

    name: str
    uri: str

    async def contents(self) -> Contents:
        return Contents(domains=await asyncio.to_thread(self._domains), ports=())

    def _domains(self) -> set[str]:
        connection = libvirt.openReadOnly(self.uri)
        try:
            names = [domain.name() for domain in connection.listAllDomains()]
        finally:
            connection.close()
        return {name.removeprefix(_PREFIX) for name in names if name.startswith(_PREFIX)}


def _hosts(layout: Layout, config: Config) -> list[LibvirtHost]:
    site = Site.of(layout, config)
    if site is None:
        return [LibvirtHost(config.host, servers(layout, config).libvirt_uri)]
    return [LibvirtHost(host.name, host.libvirt_uri) for host in site.hosts]


async def soundness(layout: Layout) -> list[Violation]:
    config = Config.load(layout)
    own = servers(layout, config)
    log = await EventLog.open(own.postgres_dsn, schema=f"{config.cell}_log", pool_size=4)
    bus = await connect(
        list(own.nats_urls),
        cell=config.cell,
        name="invariants",
        credentials=layout.nats_credentials("conductor"),
        inbox_prefix=inbox_prefix(Identity.service("conductor")),
        tls=client_ssl_context(TlsFiles.in_folder(layout.tls("conductor"))),
    )
    try:
        cell = replace(await cell_under_check(log, bus), hosts=_hosts(layout, config), blobs=layout.blobs)
        return await lasting_violations(cell, patience_s=PATIENCE_S)
    finally:
        await bus.close()
        await log.close()


if __name__ == "__main__":
    found = asyncio.run(soundness(Layout(Path(sys.argv[1]))))
    print("\n".join(map(str, found)))
    sys.exit(1 if found else 0)
