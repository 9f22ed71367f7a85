"""Settings of the deployment, from environment variables with the prefix `CIRRA_`; see docs/operations.md.

The one place of this package where the environment is read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated

from pydantic import field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from core.settings import split_list
from deployment.layout import DEFAULT_ROOT

# Everything else of the caller's stays out of the services' environment.
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE")


class DeploySettings(BaseSettings):
    """What an operator may say at `up`; what isn't said stays as it was said before.

    Servers that are named are used and left running; others are our own.
    """

    model_config = SettingsConfigDict(env_prefix="CIRRA_", extra="ignore", frozen=True)

    state_dir: Path = DEFAULT_ROOT
    # Where services listen, and are called. One that other machines reach lets them use the API and become hosts.
    address: IPv4Address | None = None
    postgres_dsn: str = ""
    nats_urls: Annotated[tuple[str, ...], NoDecode] = ()
    # Of a NATS that is named: the folder of `core.natsauth.keys.NatsKeys` whose operator it trusts.
    nats_keys_directory: Path | None = None
    libvirt_uri: str = ""

    @field_validator("nats_urls", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return split_list(value)


def inherited_environment() -> Mapping[str, str]:
    """What every service gets of the caller's environment: what a program needs, and further settings of Cirra."""
    return {name: value for name, value in os.environ.items() if name in _INHERITED or name.startswith("CIRRA_")}
