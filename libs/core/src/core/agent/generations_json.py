"""The records as they were kept before `core.agent.ledger`: one JSON file, taken over once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from core.agent.records import HostRecord, Key, Record

_FILE = "generations.json"
_READABLE = (1, 2)  # the first had no epochs


def load(folder: Path) -> tuple[HostRecord, dict[Key, Record]]:
    """What the file holds; nothing when there is none. Raises ValueError, KeyError, TypeError when it is damaged."""
    path = folder / _FILE
    if not path.exists():
        return HostRecord(), {}
    content: dict[str, Any] = json.loads(path.read_bytes())
    if content["format"] not in _READABLE:
        raise ValueError(f"format {content['format']} is none of {_READABLE}")
    records: dict[Key, Record] = {}
    for name, entry in content["objects"].items():
        kind, _, object_id = name.partition("/")
        records[kind, object_id] = Record(**entry)
    acts = not content.get("observe_only", False)
    return HostRecord(content["boot_id"], content.get("epoch", 0), content.get("told_epoch", 0), acts), records


def remove(folder: Path) -> None:
    """It was taken over, and must not be again."""
    (folder / _FILE).unlink(missing_ok=True)
