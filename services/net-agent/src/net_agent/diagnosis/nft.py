"""Rules as the kernel has them: `nft -j list …` (nft(8), libnftables-json(5)) in the calling thread's namespace."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

_TIMEOUT_S = 5.0
# Its messages are read here: in English, please.
_ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
_OURS = "cirra"

Listing = list[Mapping[str, Any]]


def list_foreign() -> Listing:
    """All tables but Cirra's, without what their counters count. Raises OSError, subprocess.SubprocessError.

    Ours are not even read: with many ports they are long.
    """
    others = [name.split(maxsplit=1) for name in sorted(tables())]
    listings = [_listed("table", *name, stateless=True) for name in others if not is_ours(name[1])]
    return [entry for listing in listings for entry in listing or ()]


def is_ours(table: str) -> bool:
    """By its name."""
    return table == _OURS or table.startswith((f"{_OURS}-", f"{_OURS}_"))


def list_table(family: str, name: str) -> Listing | None:
    """None: there is no such table. Raises OSError, subprocess.SubprocessError."""
    return _listed("table", family, name)


def tables() -> set[str]:
    """ "family name" of each."""
    listing = _listed("tables") or []
    return {f"{entry['table']['family']} {entry['table']['name']}" for entry in listing if "table" in entry}


def _listed(*what: str, stateless: bool = False) -> Listing | None:
    program = shutil.which("nft") or "/usr/sbin/nft"
    options = ["-j", "-s"] if stateless else ["-j"]
    result = subprocess.run(
        [program, *options, "list", *what], capture_output=True, timeout=_TIMEOUT_S, check=False, env=_ENVIRONMENT
    )
    if result.returncode != 0 and b"No such file or directory" in result.stderr:
        return None
    result.check_returncode()
    listing: Listing = json.loads(result.stdout)["nftables"]
    return listing
