"""The metadata service's settings; the common ones are in `core.settings`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import field_validator
from pydantic_settings import NoDecode

from core.settings import ServiceSettings, split_list


class MetadataSettings(ServiceSettings):
    # host:port of the HTTPS door for hosts' proxies.
    http_listen: str = "127.0.0.1:0"
    # 32 bytes in base64: the hosts' keys derive from it.
    metadata_key_file: Path
    # A comma-separated list of host:port: who records what guests post.
    conductor_addresses: Annotated[tuple[str, ...], NoDecode]
    # A JSON object for all guests: vendor_data.json, and `static` in vendor_data2.json. Read at the start.
    vendor_data_file: Path | None = None

    @field_validator("conductor_addresses", mode="before")
    @classmethod
    def _split_addresses(cls, value: object) -> object:
        return split_list(value)
