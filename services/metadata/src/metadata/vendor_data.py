"""Vendor data: what the operator of a cloud tells all its guests, from a file."""

from __future__ import annotations

import json
from pathlib import Path

from core.errors import CirraError
from metadata.openstack import Document


def read_vendor_data(file: Path | None) -> Document:
    """The JSON object in a file; empty without one. Raises CirraError for anything else. Blocks.

    cloud-init acts on what it finds under the key `cloud-init`, as on user data.
    """
    if file is None:
        return {}
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise _unusable(file, str(error)) from error
    if not isinstance(found, dict):
        raise _unusable(file, "it is no JSON object")
    return found


def _unusable(file: Path, why: str) -> CirraError:
    return CirraError(
        f"vendor data of {file} can't be used: {why}",
        reason="VENDOR_DATA_UNUSABLE",
        remedy="put one JSON object into CIRRA_VENDOR_DATA_FILE, or set no such file",
    )
