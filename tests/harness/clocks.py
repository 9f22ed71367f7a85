"""Machines whose clocks are wrong, by libfaketime (Debian package `faketime`).

Only the wall clock is off, as on a badly set host: what can't be set (CLOCK_MONOTONIC and its like) goes on rightly.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from deployment.process import Program

# $LIB is filled in by the dynamic linker (ld.so(8)).
_LIBRARY = "/usr/$LIB/faketime/libfaketimeMT.so.1"


def wrong_clock(offset: str) -> dict[str, str]:
    """Environment of a process whose clock is off by so much: "+1h", "-1h"; nothing for ""."""
    if not offset:
        return {}
    return {"LD_PRELOAD": _LIBRARY, "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def with_clock(program: Program, offset: str) -> Program:
    environment: Mapping[str, str] = {**program.environment, **wrong_clock(offset)}
    return dataclasses.replace(program, environment=environment)
