"""When the demo fails: what a person would look at first."""

from __future__ import annotations

from collections.abc import Iterator

from cirra.compute.v1.compute_pb2 import Instance
from deployment.layout import Layout
from deployment.parts import log_tail

_CONSOLE_LINES = 30
_LOG_LINES = 12


def evidence(layout: Layout, instance: Instance | None) -> Iterator[str]:
    """The fault, the end of the guest's console, and what the services lately complained of."""
    if instance is not None:
        if instance.HasField("fault"):
            fault = instance.fault
            yield f"fault of {instance.display_name}: {fault.reason}: {fault.message}"
            yield f"→ {fault.remedy}"
        console = layout.agent_state / "instances" / instance.uid / "console.log"
        yield f"--- the end of {console}"
        yield log_tail(console, _CONSOLE_LINES) or "(nothing)"
    for log in sorted(layout.logs.glob("*.log")):
        if complaints := _complaints(log_tail(log, 400)):
            yield f"--- {log}"
            yield complaints


def _complaints(text: str) -> str:
    """The last lines that are no mere information; JSON lines name their level."""
    lines = [line for line in text.splitlines() if '"level": "info"' not in line and '"level": "debug"' not in line]
    return "\n".join(lines[-_LOG_LINES:])
