"""The metadata service's settings; the common ones are in `core.settings`."""

from __future__ import annotations

from pathlib import Path

from core.settings import ServiceSettings


class MetadataSettings(ServiceSettings):
    # host:port of the HTTPS door for hosts' proxies.
    http_listen: str = "127.0.0.1:0"
    # 32 bytes in base64: the hosts' keys derive from it.
    metadata_key_file: Path
