"""`status` on the terminal: processes, the log and its projections, hosts, replicas, what is stuck."""

from __future__ import annotations

from datetime import UTC

import asyncpg
from rich.console import Console

from cirra.operations.v1.operations_pb2 import OPERATION_STATE_STUCK, Operation
from cirra.placement.v1.placement_pb2 import Host, HostState, ServiceStatus
from cirra_sdk import AsyncClient
from cirra_sdk.errors import CirraError as CloudError
from deployment import clouds
from deployment.config import Config
from deployment.layout import Layout
from deployment.overview import host_processes, log_state, processes
from deployment.render import process_table, projection_table, table
from deployment.testbed.site import Site

_RETRY_FOR_S = 2.0


async def report(layout: Layout, config: Config, console: Console) -> bool:
    """Prints all that can be had; whether all is well."""
    rows = processes(layout)
    if not rows:
        console.print(f"Cirra does not run ({layout.root}); start it: make up")
        return False
    if (site := Site.of(layout, config)) is not None:
        rows += [row for host in site.hosts for row in host_processes(host)]
    console.print(process_table(rows))
    answers = [all(row.healthy for row in rows), await _log(layout, config, console), await _cloud(layout, console)]
    return all(answers)


async def _log(layout: Layout, config: Config, console: Console) -> bool:
    try:
        state = await log_state(layout, config)
    except (OSError, asyncpg.PostgresError) as error:
        console.print(f"\nEvent log: Postgres does not answer: {error}", markup=False)
        return False
    console.print()
    console.print(projection_table(state))
    return all(projection.halted_at is None for projection in state.projections)


async def _cloud(layout: Layout, console: Console) -> bool:
    """What the cloud says of itself, through the public API."""
    try:
        async with AsyncClient.of(clouds.admin(layout), retry_for_s=_RETRY_FOR_S) as client:
            hosts = [host async for host in client.hosts.list()]
            services = await client.services.list()
            stuck = [operation async for operation in client.operations.list(state=OPERATION_STATE_STUCK)]
    except (CloudError, OSError) as error:
        console.print(f"\nThe cloud does not answer: {error}", markup=False)
        return False
    console.print()
    console.print(table("Hosts", ("host", "state", "enabled", "vcpus", "memory MiB", "instances"), map(_host, hosts)))
    console.print()
    heard = map(_service, services)
    console.print(table("Replicas and agents, by their heartbeats", ("service", "instance", "state"), heard))
    console.print()
    if stuck:
        console.print(
            table("Stuck operations", ("operation", "kind", "step", "host", "since", "why"), map(stuck_row, stuck))
        )
    else:
        console.print("No operation is stuck.")
    waiting = [host.name.removeprefix("hosts/") for host in hosts if host.observe_only]
    if waiting:
        console.print(f"The log was restored; see `cirra host differences`, of each: {', '.join(waiting)}")
    return not stuck and not waiting


def _host(host: Host) -> tuple[str, ...]:
    inventory, usage = host.inventory, host.usage
    return (
        host.name.removeprefix("hosts/"),
        _state(host),
        "yes" if host.enabled else f"no: {host.disabled_reason}",
        f"{usage.vcpus}/{inventory.vcpus}",
        f"{usage.memory_mib}/{inventory.memory_mib}",
        str(usage.instances),
    )


def _state(host: Host) -> str:
    state = HostState.Name(host.state).removeprefix("HOST_STATE_").lower()
    return f"{state}, observe-only" if host.observe_only else state


def _service(status: ServiceStatus) -> tuple[str, ...]:
    return (status.service, status.instance, "up" if status.up else f"silent for {status.silence_ms / 1000:.0f} s")


def stuck_row(operation: Operation) -> tuple[str, ...]:
    """Uid, kind, step, host, since when (local time), why."""
    stuck = operation.stuck
    step = f"{'undo of ' if stuck.undoing else ''}{stuck.step}"
    since = stuck.since.ToDatetime(UTC).astimezone().isoformat(" ", "seconds")
    return (operation.uid, operation.kind, step, stuck.host, since, stuck.error.message)
