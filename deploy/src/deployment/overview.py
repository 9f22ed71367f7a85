"""`status`: what runs, how far each projection is behind the log, which hosts there are, what is stuck."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import asyncpg

from core.eventlog.schema import quote_identifier
from deployment.config import Config
from deployment.layout import Layout
from deployment.lock import is_locked
from deployment.process import Watched
from deployment.servers import servers
from deployment.status import PartState, PartStatus, Phase, Status
from deployment.testbed.host import Host

_CONNECT_TIMEOUT_S = 3.0
# Schemas that hold projections, without the cell's prefix.
_SCHEMAS = ("conductor", "gateway", "metadata")


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """`uptime_s` None while it doesn't run. `healthy`: it lives, is not frozen, and has said that it is ready."""

    name: str
    pid: int | None
    state: str
    uptime_s: float | None
    restarts: int
    healthy: bool
    last_end: str


@dataclass(frozen=True, slots=True)
class ProjectionRow:
    """`behind`: events of the log that are not in the rows yet. `error` of the event that it halted at."""

    schema: str
    name: str
    position: int
    behind: int
    halted_at: int | None
    error: str


@dataclass(frozen=True, slots=True)
class LogState:
    """The head of the log, and what is projected from it."""

    position: int
    epoch: int
    projections: tuple[ProjectionRow, ...]


def processes(layout: Layout) -> list[ProcessRow]:
    """By the supervisor's last word and a look at each process; the supervisor itself first."""
    return _processes(layout, lambda pid: pid)


def host_processes(host: Host) -> list[ProcessRow]:
    """The same of a host of a testbed, named after it; process ids are this machine's."""
    ids = host.processes()
    rows = _processes(host.layout, ids.get) if host.is_on else []
    if not rows:
        return [ProcessRow(host.name, None, "off", None, 0, False, "")]
    return [replace(row, name=f"{host.name}: {row.name}") for row in rows]


def _processes(layout: Layout, known_here: Callable[[int], int | None]) -> list[ProcessRow]:
    """*known_here*: the id that a process has in our process namespace."""
    status = Status.load(layout.status)
    if status is None:
        return []
    alive = is_locked(layout)
    phase = status.phase.value if alive else "not running"
    pid = known_here(status.supervisor_pid) if alive else None
    supervisor = ProcessRow("supervisor", pid, phase, None, 0, alive and status.phase is Phase.READY, "")
    return [supervisor, *(_row(name, part, known_here) for name, part in status.parts.items())]


def _row(name: str, part: PartStatus, known_here: Callable[[int], int | None]) -> ProcessRow:
    pid = None if part.pid is None else known_here(part.pid)
    process = _living(pid)
    frozen = process is not None and process.is_frozen()
    state = "frozen" if frozen else part.state.value if process is not None or part.pid is None else "gone"
    return ProcessRow(
        name=name,
        pid=pid,
        state=state,
        uptime_s=None if process is None else time.time() - part.since,
        restarts=part.restarts,
        healthy=process is not None and not frozen and part.state is PartState.READY,
        last_end=part.last_end,
    )


def _living(pid: int | None) -> Watched | None:
    if pid is None:
        return None
    try:
        process = Watched(pid)
    except ProcessLookupError:
        return None
    return None if process.has_exited() else process


async def log_state(layout: Layout, config: Config) -> LogState:
    """Raises OSError or asyncpg.PostgresError when Postgres doesn't answer, or never was started."""
    connection = await asyncpg.connect(servers(layout, config).postgres_dsn, timeout=_CONNECT_TIMEOUT_S)
    try:
        log = quote_identifier(f"{config.cell}_log")
        [head] = await connection.fetch(f"SELECT position, epoch FROM {log}.head")
        rows: list[ProjectionRow] = []
        for schema in _SCHEMAS:
            rows += await _projections(connection, f"{config.cell}_{schema}", head["position"])
    finally:
        await connection.close()
    return LogState(head["position"], head["epoch"], tuple(rows))


async def _projections(connection: asyncpg.Connection, schema: str, head: int) -> list[ProjectionRow]:
    columns = "name, position, halted_at, error"
    try:
        rows = await connection.fetch(f"SELECT {columns} FROM {quote_identifier(schema)}.projections ORDER BY name")
    except asyncpg.UndefinedTableError:
        return []
    return [
        ProjectionRow(
            schema, row["name"], row["position"], max(0, head - row["position"]), row["halted_at"], row["error"]
        )
        for row in rows
    ]
