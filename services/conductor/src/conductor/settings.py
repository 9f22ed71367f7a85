"""The conductor's settings; the common ones are in `core.settings`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from core.settings import ServiceSettings, split_list


class ConductorSettings(ServiceSettings):
    placement_addresses: Annotated[tuple[str, ...], NoDecode]
    # The authority that signs hosts' certificates, and the keys that sign their NATS identities.
    ca_directory: Path
    nats_keys_directory: Path
    # 32 bytes in base64 each.
    ticket_key_file: Path
    metadata_key_file: Path
    # What an enrolled host is told.
    image_download_url: str
    metadata_url: str
    advertised_conductor_addresses: Annotated[tuple[str, ...], NoDecode]
    advertised_nats_urls: Annotated[tuple[str, ...], NoDecode]
    # The password of user `admin`, who is made at the first start.
    admin_password_file: Path
    # Of a password's Argon2id hash (RFC 9106): passes over its memory, and how much that is.
    password_time_cost: int = Field(default=3, ge=1)
    password_memory_kib: int = Field(default=64 * 1024, ge=64)

    @field_validator("placement_addresses", "advertised_conductor_addresses", "advertised_nats_urls", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return split_list(value)
