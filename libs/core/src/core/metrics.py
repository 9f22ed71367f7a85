"""Prometheus metrics: what every process counts, and the endpoint that shows it.

Names follow https://prometheus.io/docs/practices/naming/: base units (seconds), `_total` for counters.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from core.settings import split_address

_RPC_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_WORK_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

RPC_SERVED = Histogram("cirra_rpc_server_seconds", "RPCs served, by status", ("method", "code"), buckets=_RPC_BUCKETS)
RPC_CALLED = Histogram("cirra_rpc_client_seconds", "RPCs made, by status", ("method", "code"), buckets=_RPC_BUCKETS)
COMMANDS = Histogram(
    "cirra_agent_command_seconds",
    "Objects made to be as desired, by what asked for it and how it ended",
    ("agent", "kind", "cause", "outcome"),
    buckets=_WORK_BUCKETS,
)
REPORTS = Counter("cirra_agent_reports_total", "Reports accepted by the bus", ("agent", "fact"))
SAGAS = Counter("cirra_sagas_total", "Sagas ended, by outcome", ("saga", "outcome"))
SAGA_STEPS = Histogram(
    "cirra_saga_step_seconds",
    "Steps and undos of sagas, by outcome",
    ("saga", "step", "direction", "outcome"),
    buckets=_WORK_BUCKETS,
)
SAGAS_RUNNING = Gauge("cirra_sagas_running", "Sagas that this replica runs now", ("saga",))


@dataclass(frozen=True, slots=True)
class MetricsEndpoint:
    """The running HTTP endpoint; `address` is host:port as bound."""

    address: str
    server: WSGIServer
    thread: Thread

    async def stop(self) -> None:
        await asyncio.to_thread(self.server.shutdown)
        self.server.server_close()
        await asyncio.to_thread(self.thread.join)


def start_endpoint(listen: str) -> MetricsEndpoint:
    """Serve `GET /metrics` on *listen* (host:port). Raises OSError if the address is taken."""
    host, port = split_address(listen)
    server, thread = start_http_server(port, host)
    bound_host, bound_port = server.server_address[:2]
    return MetricsEndpoint(f"{bound_host!s}:{bound_port}", server, thread)
