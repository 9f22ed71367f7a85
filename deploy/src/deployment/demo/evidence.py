"""When the demo fails: what a person would look at first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from cirra.compute.v1.compute_pb2 import Instance
from deployment.layout import Layout
from deployment.parts import log_tail

_CONSOLE_LINES = 30
_LOG_LINES = 12
_LONGEST_LINE = 300
_NO_COMPLAINTS = ("debug", "info")


def evidence(layout: Layout, host: Layout, instance: Instance | None, since: datetime) -> Iterator[str]:
    """The fault, the end of the guest's console, and what the services complained of *since* then.

    *host*: what the instance's host has; this deployment's own, when it is this machine.
    """
    if instance is not None:
        if instance.HasField("fault"):
            fault = instance.fault
            yield f"fault of {instance.display_name}: {fault.reason}: {fault.message}"
            yield f"→ {fault.remedy}"
        console = host.agent_state / "instances" / instance.uid / "console.log"
        yield f"--- the end of {console}"
        yield log_tail(console, _CONSOLE_LINES) or "(nothing)"
    for log in sorted({*layout.logs.glob("*.log"), *host.logs.glob("*.log")}):
        if found := complaints(log_tail(log, 400), since):
            yield f"--- {log}"
            yield from found


def complaints(text: str, since: datetime) -> list[str]:
    """The last lines of a log that are no mere information and no older than *since*, each in short.

    A line that is no JSON, such as a crash's traceback, is as old as the one before it.
    """
    found, recent = [], True
    for line in text.splitlines():
        entry = _entry(line)
        if entry is None:
            found += [line[:_LONGEST_LINE]] if recent else []
            continue
        recent = datetime.fromisoformat(entry["timestamp"]) >= since
        if recent and entry["level"] not in _NO_COMPLAINTS:
            found.append(_in_short(entry))
    return found[-_LOG_LINES:]


def _entry(line: str) -> dict[str, Any] | None:
    """A line of our services' logs; None: some other program's, or a format for people."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and {"timestamp", "level", "message"} <= entry.keys() else None


def _in_short(entry: dict[str, Any]) -> str:
    """When, what, why. Of a traceback the last line: all of it is in the log."""
    why = entry.get("error") or str(entry.get("exception", "")).rstrip().rpartition("\n")[2]
    said = f"{entry['message']}: {why}" if why else str(entry["message"])
    return f"{entry['timestamp']} {said}"[:_LONGEST_LINE]
