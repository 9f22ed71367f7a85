"""The gateway's settings; the common ones are in `core.settings`. `listen` is the public gRPC door."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from core.settings import ServiceSettings, split_list

GIB = 1024**3


class GatewaySettings(ServiceSettings):
    # Comma-separated lists of host:port.
    conductor_addresses: Annotated[tuple[str, ...], NoDecode]
    placement_addresses: Annotated[tuple[str, ...], NoDecode]
    # Ed25519, PEM: signs access tokens. Every replica has the same.
    token_key_file: Path
    token_lifetime_s: int = Field(default=3600, ge=60)
    # 32 bytes in base64: what the conductor signs image tickets with.
    ticket_key_file: Path
    # Shared by all replicas.
    blob_directory: Path
    # host:port of image downloads.
    http_listen: str = "127.0.0.1:0"
    image_max_bytes: int = Field(default=256 * GIB, gt=0)
    image_max_virtual_bytes: int = Field(default=4096 * GIB, gt=0)
    # Of each program that inspects an uploaded image.
    inspection_memory_bytes: int = Field(default=GIB, gt=0)
    inspection_cpu_s: int = Field(default=30, gt=0)

    @field_validator("conductor_addresses", "placement_addresses", mode="before")
    @classmethod
    def _split_addresses(cls, value: object) -> object:
        return split_list(value)
