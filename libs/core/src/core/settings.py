"""Settings of every process, read from environment variables with the prefix `CIRRA_`.

This module and the `settings.py` of a service, which subclasses `ServiceSettings`, are the only places where the
environment is read. A process is configured by its environment alone, so that a supervisor can show it whole.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def default_replica() -> str:
    """`<hostname>-<pid>`: unique among the processes that run now."""
    return f"{default_machine()}-{os.getpid()}"


def default_machine() -> str:
    """The first part of the host's name."""
    return socket.gethostname().split(".")[0]


class ServiceSettings(BaseSettings):
    """What all processes share; a service subclasses it and adds its own."""

    model_config = SettingsConfigDict(env_prefix="CIRRA_", extra="ignore", frozen=True)

    cell: str = Field(default="main", pattern=r"^[a-z0-9][a-z0-9_]{0,30}$")
    replica: str = Field(default_factory=default_replica, min_length=1)
    # What operators call the machine that this process runs on.
    machine: str = Field(default_factory=default_machine, min_length=1)
    postgres_dsn: str = ""
    # A comma-separated list in the environment.
    nats_urls: Annotated[tuple[str, ...], NoDecode] = ("nats://127.0.0.1:4222",)
    nats_credentials: Path | None = None
    # Of each stream; 3 on a NATS cluster. These two are the same for all services: each sees to the streams.
    stream_replicas: int = Field(default=1, ge=1)
    # How long a command waits for its host. What a host misses then, it learns by its desired state.
    commands_max_age_s: float = Field(default=3600.0, ge=1)
    # Holds cert.pem, key.pem and ca.pem. None: no TLS, for tests of one part alone.
    tls_directory: Path | None = None
    # host:port; port 0 lets the kernel choose, and `ready_file` tells what it chose.
    listen: str = "127.0.0.1:0"
    # host:port of the Prometheus endpoint; empty: none.
    metrics_listen: str = ""
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    # host:port or URL of an OTLP/gRPC collector; empty: no export.
    otlp_endpoint: str = ""
    # One JSON line per finished span, for development and tests.
    trace_file: Path | None = None
    # 32 bytes in base64; wraps the keys of sensitive fields (core.sealing).
    master_key_file: Path | None = None
    # Written once the process is ready: a JSON object with its pid and the addresses it listens on.
    ready_file: Path | None = None

    @field_validator("nats_urls", mode="before")
    @classmethod
    def _split_nats_urls(cls, value: object) -> object:
        return split_list(value)

    def schema_name(self, name: str) -> str:
        """The Postgres schema of a part: `<cell>_<name>`."""
        return f"{self.cell}_{name}"


def split_list(value: object) -> object:
    """`"a, b"` → `("a", "b")`; what is not a text is left to pydantic. For list fields marked `NoDecode`."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def split_address(address: str) -> tuple[str, int]:
    """`"127.0.0.1:80"` → `("127.0.0.1", 80)`, `"[::1]:80"` → `("::1", 80)`. Raises ValueError."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit() or not host:
        raise ValueError(f"{address!r} is not host:port")
    return host.strip("[]"), int(port)
