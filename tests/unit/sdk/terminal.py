"""What a program writes to a terminal."""

from __future__ import annotations

import os
import select
import time

PATIENCE_S = 60.0


def read_until(terminal: int, wanted: str) -> str:
    """What comes up to *wanted*. *terminal*: the master of a pseudo-terminal. Raises TimeoutError."""
    came, until = "", time.monotonic() + PATIENCE_S
    while wanted not in came:
        if time.monotonic() > until:
            raise TimeoutError(f"{wanted!r} never came; there was {came!r}")
        if select.select([terminal], [], [], 0.2)[0]:
            came += os.read(terminal, 4096).decode(errors="replace")
    return came
