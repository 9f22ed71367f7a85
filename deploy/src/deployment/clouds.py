"""`clouds.yaml`: how the `cirra` command finds this deployment, and as whom it comes."""

from __future__ import annotations

import yaml

from cirra_sdk.config import Profile
from core.pki.files import write_private
from deployment import secrets
from deployment.layout import Layout

CLOUD = "dev"
ADMIN = "admin"


def write(layout: Layout, endpoint: str) -> None:
    """One cloud, user `admin` in project `admin`. It holds a password: mode 0600."""
    cloud = {
        "endpoint": endpoint,
        "ca_file": str(secrets.authority_file(layout)),
        "user": ADMIN,
        "password": secrets.admin_password(layout).read_text().strip(),
        "project": ADMIN,
    }
    write_private(layout.clouds, yaml.safe_dump({"clouds": {CLOUD: cloud}}, sort_keys=False).encode())


def admin(layout: Layout) -> Profile:
    """Who `write` described. Raises FileNotFoundError before the first start."""
    return Profile(**yaml.safe_load(layout.clouds.read_text())["clouds"][CLOUD], cloud=CLOUD)
