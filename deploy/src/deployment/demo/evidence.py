"""When the demo fails: what a person would look at first."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from cirra.compute.v1.compute_pb2 import Instance
from deployment.complaints import complaints, log_tail
from deployment.layout import Layout

_CONSOLE_LINES = 30
_LOG_LINES = 400


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
        if found := complaints(log_tail(log, _LOG_LINES), since):
            yield f"--- {log}"
            yield from found
