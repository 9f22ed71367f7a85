"""`clouds.yaml`: how the `cirra` command finds this deployment, and as whom it comes."""

from __future__ import annotations

import yaml

from core.pki.files import write_private
from deployment import secrets
from deployment.layout import Layout

CLOUD = "dev"
ADMIN = "admin"


def write(layout: Layout, endpoint: str) -> None:
    """One cloud, user `admin` in project `admin`. It holds a password: mode 0600."""
    content = {"clouds": {CLOUD: profile(layout, endpoint)}}
    write_private(layout.clouds, yaml.safe_dump(content, sort_keys=False).encode())


def profile(layout: Layout, endpoint: str) -> dict[str, str]:
    return {
        "endpoint": endpoint,
        "ca_file": str(secrets.authority_file(layout)),
        "user": ADMIN,
        "password": secrets.admin_password(layout).read_text().strip(),
        "project": ADMIN,
    }


def endpoint(layout: Layout) -> str:
    """host:port of the gateway, from the file."""
    found: str = yaml.safe_load(layout.clouds.read_text())["clouds"][CLOUD]["endpoint"]
    return found
