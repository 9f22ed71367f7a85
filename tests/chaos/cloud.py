"""A whole cloud of real processes: two of each service of the control plane, hosts with their agents, NATS, Postgres.

Made of the deployment's own parts, but for its supervisor: who dies here, and when, is the tests' to say.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from uuid import uuid4

from cirra.compute.v1.compute_pb2 import Instance
from cirra.identity.v1 import identity_pb2 as identity
from cirra.placement.v1.placement_pb2 import HOST_STATE_UP, Host
from cirra_sdk import AsyncClient
from cirra_sdk.config import Profile
from cirra_sdk.state import Memory
from core.agent.identity import enroll
from core.bus import Bus, connect
from core.embedded.nats import EmbeddedNats
from core.embedded.postgres import EmbeddedPostgres
from core.eventlog.log import EventLog
from core.natsauth.permissions import inbox_prefix
from core.pki.identity import Identity
from core.pki.tls import TlsFiles, client_ssl_context
from deployment import clouds, secrets
from deployment.config import Config, reserve_port, with_ports
from deployment.layout import Layout
from deployment.servers import Servers
from deployment.services import ServiceTable, port_names
from tests.chaos.customer import Customer
from tests.chaos.hosts import SimulatedHost
from tests.chaos.processes import Process
from tests.harness.clocks import with_clock, wrong_clock
from tests.harness.disks import qcow2

CELL = "chaos"
REPLICAS = 2
HOSTS = ("host-1", "host-2", "host-3")
GUESTS_PER_HOST = 20
GUEST_MEMORY_MIB = 64
# Each thing that a hypervisor or a network does takes this long, so that something is always in the middle of it.
LATENCY_S = 0.03
PROJECT, CUSTOMER, PASSWORD = "chaos", "customer", "password of the customer"
USABLE_S = 120.0
# A machine that keeps a process from running for so long may have its host, or itself, taken for silent: suspicion
# comes after 3 s, and beats are a second apart.
LATE_S = 0.5
# Longer than anything is away.
PATIENCE_S = 180.0


class ChaosCloud:
    """`services`: by their replica's name; `hosts` in order. `log` and `bus` are the tests' own.

    `clocks`: by how much those of replicas and hosts are wrong (`tests.harness.clocks`). `settings`: environment
    variables of all its processes.
    """

    log: EventLog
    bus: Bus
    customer: Customer

    def __init__(
        self,
        folder: Path,
        stack: AsyncExitStack,
        clocks: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.layout = Layout(folder)
        self.clocks = dict(clocks or {})
        self._settings = dict(settings or {})
        self.services: dict[str, Process] = {}
        self.hosts: list[SimulatedHost] = []
        self.memory = Memory()
        self._stack = stack

    async def open(self) -> None:
        self.layout.prepare()
        config = Config(cell=CELL, host="none", host_uuid=uuid4(), replicas=REPLICAS)
        await asyncio.to_thread(secrets.prepare, self.layout, config)
        await self._start_servers(config)
        config = with_ports(config, port_names(REPLICAS))
        reached = Servers(self.postgres.dsn, (self.nats.url,), libvirt_uri="")
        environment = _environment() | self._settings
        table = ServiceTable(self.layout, config, reached, environment)
        self.gateways = table.addresses.gateway
        for program in table.control_plane():
            self.services[program.name] = Process(with_clock(program, self.clocks.get(program.name, "")))
        await self._start(list(self.services.values()))
        clouds.write(self.layout, self.gateways[0])
        self.admin = AsyncClient.of(clouds.admin(self.layout), retry_for_s=PATIENCE_S)
        self._stack.push_async_callback(self.admin.close)
        await self._open_hosts(environment)
        await self._usable()
        self.customer = await self._new_customer()
        await self._open_eyes()

    def pids(self) -> list[int]:
        """Of all services and agents."""
        agents = [agent for host in self.hosts for agent in (host.compute, host.net)]
        return [pid for process in (*self.services.values(), *agents) for pid in process.pids]

    def of(self, service: str) -> list[Process]:
        """All replicas of a service."""
        return [process for name, process in self.services.items() if name.rpartition("-")[0] == service]

    async def instances(self) -> list[Instance]:
        """All that there are at the log's end, in whatever state, with their hosts."""
        self.memory.saw((await self.log.head()).position)
        return [instance async for instance in self.customer.clients[0].instances.list()]

    def client_of_customer(self, gateway: int, *, retry_for_s: float) -> AsyncClient:
        """To be closed. All of them know what one has written."""
        ca_file = str(secrets.authority_file(self.layout))
        profile = Profile(self.gateways[gateway], ca_file, CUSTOMER, PASSWORD, PROJECT)
        return AsyncClient.of(profile, memory=self.memory, retry_for_s=retry_for_s)

    async def _start_servers(self, config: Config) -> None:
        self.postgres = EmbeddedPostgres(self.layout.postgres)
        tls = TlsFiles.in_folder(self.layout.tls(secrets.NATS_SERVER))
        self.nats = EmbeddedNats(self.layout.nats, keys=secrets.nats_keys(self.layout, config), tls=tls)
        self._stack.push_async_callback(self._stop_servers)
        for server in (self.postgres, self.nats):
            reserve_port(server.folder)
            await server.start()

    async def _stop_servers(self) -> None:
        """Those that there are by then: a standby may have taken the place of Postgres."""
        await self.nats.stop()
        await self.postgres.stop()

    async def _start(self, parts: Sequence[Process | SimulatedHost]) -> None:
        """All at once, as they are stopped in the end."""

        async def stop() -> None:
            await asyncio.gather(*(part.stop() for part in parts))

        self._stack.push_async_callback(stop)
        await asyncio.gather(*(part.start() for part in parts))

    async def _open_hosts(self, environment: Mapping[str, str]) -> None:
        for name in HOSTS:
            clock = wrong_clock(self.clocks.get(name, ""))
            host = SimulatedHost(self.layout, name, CELL, {**environment, **clock})
            token = await self.admin.enrolment_tokens.create(name, ttl_seconds=300)
            ca_file = secrets.authority_file(self.layout)
            await enroll(self.gateways[0], ca_file, name, token.token, host.identity)
            self.hosts.append(host)
        await self._start(self.hosts)

    async def _usable(self) -> None:
        """Returns once each host takes guests."""
        async with asyncio.timeout(USABLE_S):
            while not all([_is_usable(await self.admin.hosts.get(name)) for name in HOSTS]):  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    async def _new_customer(self) -> Customer:
        admin = self.admin
        project = await admin.projects.create(PROJECT)
        await admin.quotas.set(project, dict.fromkeys(("instances", "vcpus", "memory_mib", "ports"), -1))
        user = await admin.users.create(CUSTOMER, PASSWORD)
        # Administrators are shown on which hosts instances are.
        await admin.users.grant_role(user, identity.ROLE_ADMIN)
        await admin.users.grant_role(user, identity.ROLE_MEMBER, project)
        flavor = await admin.flavors.create("small", vcpus=1, memory_mib=GUEST_MEMORY_MIB, disk_gib=1)
        self.memory.saw(admin.position)
        clients = [
            await self._stack.enter_async_context(self.client_of_customer(gateway, retry_for_s=PATIENCE_S))
            for gateway in range(REPLICAS)
        ]
        disk = self.layout.root / "small.qcow2"
        await asyncio.to_thread(qcow2, disk)
        return await Customer.open(clients, flavor, disk)

    async def _open_eyes(self) -> None:
        self.log = await EventLog.open(self.postgres.dsn, schema=f"{CELL}_log", patience_s=PATIENCE_S)
        self._stack.push_async_callback(self.log.close)
        self.bus = await connect(
            [self.nats.url],
            cell=CELL,
            name="tests",
            credentials=self.layout.nats_credentials("conductor"),
            inbox_prefix=inbox_prefix(Identity.service("conductor")),
            tls=client_ssl_context(TlsFiles.in_folder(self.layout.tls("conductor"))),
        )
        self._stack.push_async_callback(self.bus.close)


def _is_usable(host: Host) -> bool:
    return host.state == HOST_STATE_UP and host.inventory.memory_mib > 0


def _environment() -> dict[str, str]:
    return {
        **{name: os.environ[name] for name in ("PATH", "LANG", "PYTHONPATH") if name in os.environ},
        "CIRRA_SIMULATED_LATENCY_S": str(LATENCY_S),
        "CIRRA_SIMULATED_MEMORY_MIB": str(GUESTS_PER_HOST * GUEST_MEMORY_MIB),
    }


@asynccontextmanager
async def chaos_cloud(
    folder: Path, clocks: Mapping[str, str] | None = None, settings: Mapping[str, str] | None = None
) -> AsyncIterator[ChaosCloud]:
    """Up until the block ends."""
    async with AsyncExitStack() as stack:
        cloud = ChaosCloud(folder, stack, clocks, settings)
        await cloud.open()
        yield cloud
