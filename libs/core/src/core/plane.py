"""What every service of the control plane stands on: the log, the bus, sealed secrets, an identity, a heartbeat."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass

from core.bus import Bus, connect
from core.clock import DatabaseClock
from core.context import current_context
from core.errors import CirraError
from core.eventlog.leases import Leases
from core.eventlog.log import EventLog
from core.liveness import HeartbeatPublisher, installed_version
from core.natsauth.permissions import inbox_prefix
from core.pki.identity import Identity
from core.pki.tls import TlsFiles, client_ssl_context
from core.projection import EventStream
from core.repository import Repository
from core.sealing import Keyring, decode_master_key
from core.service import Lifetime
from core.settings import ServiceSettings


@dataclass(frozen=True, slots=True)
class Plane:
    """`runner` names this life of this replica: leases and sagas of an earlier life are not its own.

    `clock`: the time that all replicas agree on. `events`: what the bus tells of the log, for all that follow it here.
    """

    log: EventLog
    leases: Leases
    keyring: Keyring
    repository: Repository
    bus: Bus
    tls: TlsFiles | None
    runner: str
    clock: DatabaseClock
    events: EventStream


async def open_plane(
    lifetime: Lifetime,
    service: str,
    settings: ServiceSettings,
    *,
    beating: bool = True,
    news_late_s: float = 0.0,
    news_of: Collection[str] | None = None,
) -> Plane:
    """Connects, waiting for Postgres and NATS as long as it takes, and starts the heartbeat.

    *beating* False: this process is no replica of the service, but a passing helper that nobody should miss.
    *news_late_s*: how much later than others it may hear what happens in the log, to hear more of it at a time.
    *news_of*: the types of events that concern it; None: all.
    Raises CirraError for settings that can't work.
    """
    if settings.master_key_file is None:
        raise CirraError("no master key", remedy="set CIRRA_MASTER_KEY_FILE")
    master_key = decode_master_key(settings.master_key_file.read_text().strip())
    log_schema = settings.schema_name("log")
    log = await EventLog.open(settings.postgres_dsn, schema=log_schema)
    lifetime.on_stop(log.close, "event log")
    clock = await DatabaseClock.start(log.pool)
    lifetime.start(clock.run(), "clock")
    tls = None if settings.tls_directory is None else TlsFiles.in_folder(settings.tls_directory)
    bus = await _connect(service, settings, tls)
    lifetime.on_stop(bus.close, "bus")
    life = os.urandom(4).hex()
    if beating:
        _start_heartbeat(lifetime, bus, service, settings, life)
    events_bus = bus
    if news_late_s:
        events_bus = await bus.another("events", rest_s=news_late_s)
        lifetime.on_stop(events_bus.close, "bus of events")
    keyring = Keyring(log.pool, log_schema, master_key)
    return Plane(
        log=log,
        leases=Leases(log.pool, log_schema),
        keyring=keyring,
        repository=Repository(log, keyring, current_context),
        bus=bus,
        tls=tls,
        runner=f"{settings.replica}.{life}",
        clock=clock,
        events=EventStream(events_bus, news_of),
    )


async def _connect(service: str, settings: ServiceSettings, tls: TlsFiles | None) -> Bus:
    return await connect(
        list(settings.nats_urls),
        cell=settings.cell,
        name=f"{service}/{settings.replica}",
        credentials=settings.nats_credentials,
        inbox_prefix=inbox_prefix(Identity.service(service)),
        tls=client_ssl_context(tls) if tls and any(url.startswith("tls://") for url in settings.nats_urls) else None,
    )


def _start_heartbeat(lifetime: Lifetime, bus: Bus, service: str, settings: ServiceSettings, life: str) -> None:
    heartbeat = HeartbeatPublisher.for_service(
        bus,
        service=service,
        replica=settings.replica,
        boot_id=life,
        version=installed_version(),
        machine=settings.machine,
    )
    lifetime.on_stop(heartbeat.leave, "last heartbeat")
    lifetime.start(heartbeat.run(), "heartbeat")
