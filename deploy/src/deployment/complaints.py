"""What a service complains of in its log, in short: for a person who asks why it is not there."""

from __future__ import annotations

import json
from collections import deque
from datetime import datetime
from pathlib import Path
from typing import Any

_TAIL_LINES = 25
_MOST = 12
_LONGEST_LINE = 500
_NO_COMPLAINTS = ("debug", "info")


def log_tail(path: Path, lines: int = _TAIL_LINES, *, offset: int = 0) -> str:
    """The last lines of a log, of those after its first *offset* bytes; "" when there is none."""
    try:
        with path.open(errors="replace") as file:
            file.seek(offset)
            return "".join(deque(file, maxlen=lines)).rstrip()
    except FileNotFoundError:
        return ""


def log_size(path: Path) -> int:
    """How much has been logged, in bytes: what comes later begins there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def complaints(text: str, since: datetime | None = None) -> list[str]:
    """The last lines of a log that are no mere information and no older than *since*, each in short.

    A line that is no JSON, such as a crash's traceback, is as old as the one before it.
    """
    found, recent = [], True
    for line in text.splitlines():
        entry = _entry(line)
        if entry is None:
            found += [line[:_LONGEST_LINE]] if recent else []
            continue
        recent = since is None or datetime.fromisoformat(entry["timestamp"]) >= since
        if recent and entry["level"] not in _NO_COMPLAINTS:
            found.append(_in_short(entry))
    return found[-_MOST:]


def _entry(line: str) -> dict[str, Any] | None:
    """A line of our services' logs; None: some other program's, or a format for people."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and {"timestamp", "level", "message"} <= entry.keys() else None


def _in_short(entry: dict[str, Any]) -> str:
    """When, what, why, and what to do. Of a traceback the last line: all of it is in the log."""
    why = entry.get("error") or str(entry.get("exception", "")).rstrip().rpartition("\n")[2]
    said = f"{entry['message']}: {why}" if why else str(entry["message"])
    remedy = f" → {entry['remedy']}" if entry.get("remedy") else ""
    return f"{entry['timestamp']} {said}{remedy}"[:_LONGEST_LINE]
