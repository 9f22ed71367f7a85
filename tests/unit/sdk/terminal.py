"""What a program writes to a terminal."""

from __future__ import annotations

import os
import select
import time

PATIENCE_S = 60.0
AGAIN_S = 5.0


def read_until(terminal: int, wanted: str, *, typing: str = "") -> str:
    """What comes up to *wanted*. *terminal*: the master of a pseudo-terminal. Raises TimeoutError.

    `typing`: what a person types, and again where the answer has come too late to be shown.
    """
    came, until, again = "", time.monotonic() + PATIENCE_S, 0.0
    while wanted not in came:
        if typing and time.monotonic() > again:
            os.write(terminal, typing.encode())
            again = time.monotonic() + AGAIN_S
        if time.monotonic() > until:
            raise TimeoutError(f"{wanted!r} never came; there was {came!r}")
        if select.select([terminal], [], [], 0.2)[0]:
            came += os.read(terminal, 4096).decode(errors="replace")
    return came
