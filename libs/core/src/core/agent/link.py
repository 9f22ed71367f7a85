"""An agent's connections: to the bus, with the host's credentials and private inbox, and to the conductor."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import grpc

from cirra.agent.v1 import host_pb2_grpc
from core.agent.faults import Faults
from core.agent.generations import GenerationStore
from core.agent.identity import HostIdentity
from core.agent.reporter import Reporter, read_boot_id
from core.agent.settings import AgentSettings
from core.bus import Bus, connect
from core.natsauth.permissions import inbox_prefix
from core.pki.identity import Identity
from core.pki.tls import client_ssl_context
from core.rpc.client import channel

_CONDUCTOR = Identity.service("conductor")


@dataclass(frozen=True, slots=True)
class AgentLink:
    """What handlers and observers of an agent are given: `conductor` to ask, `reporter` to tell, `faults` to keep."""

    identity: HostIdentity
    agent: str
    settings: AgentSettings
    boot_id: str
    bus: Bus
    conductor_channel: grpc.aio.Channel
    conductor: host_pb2_grpc.HostAgentServiceAsyncStub
    store: GenerationStore
    reporter: Reporter
    faults: Faults = field(default_factory=Faults)

    @property
    def host(self) -> str:
        return self.identity.host

    @classmethod
    async def open(
        cls, identity: HostIdentity, agent: str, settings: AgentSettings, faults: Faults | None = None
    ) -> AgentLink:
        """Connect *agent* ("compute", "net", "block") of this host. Waits for NATS, not for the conductor.

        faults: kept already by who did not wait.

        The generations acted on lie in `<host folder>/<agent>`: not beside what the agent makes, for they must be there
        when that file system failed to mount.
        """
        boot_id = read_boot_id(settings.boot_id_file)
        store = GenerationStore(identity.folder / agent)
        has_tls = any(url.startswith("tls://") for url in identity.nats_urls)
        bus = await connect(
            list(identity.nats_urls),
            cell=identity.cell,
            name=f"{agent}@{identity.host}",
            credentials=_existing(identity.nats_credentials),
            inbox_prefix=inbox_prefix(identity.identity),
            tls=client_ssl_context(identity.tls) if has_tls else None,
        )
        reporter = Reporter(
            bus,
            host=identity.host,
            agent=agent,
            boot_id=boot_id,
            generation_of=store.generation,
            epoch_of=store.epoch_of,
            repeat_after_s=settings.repeat_after_s,
        )
        over = channel(identity.conductor_addresses, identity.tls, server=_CONDUCTOR)
        stub = host_pb2_grpc.HostAgentServiceStub(over)
        return cls(
            identity, agent, settings, boot_id, bus, over, stub, store, reporter, Faults() if faults is None else faults
        )

    async def close(self) -> None:
        await self.conductor_channel.close()
        await self.bus.close()
        await self.store.close()


def _existing(credentials: Path) -> Path:
    """nats-py opens the file at each connection, and says little when it is missing."""
    credentials.stat()
    return credentials
