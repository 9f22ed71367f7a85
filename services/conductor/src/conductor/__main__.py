"""`cirra-conductor`: one replica of the write side."""

from __future__ import annotations

import sys

from core.service import run_service

from conductor.bootstrap import bootstrap
from conductor.settings import ConductorSettings


def main() -> int:
    return run_service("conductor", ConductorSettings(), bootstrap)  # type: ignore[call-arg]


if __name__ == "__main__":
    sys.exit(main())
