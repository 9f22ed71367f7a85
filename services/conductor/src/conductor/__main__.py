"""`cirra-conductor`: one replica of the write side."""

from __future__ import annotations

import sys

from conductor.bootstrap import bootstrap
from conductor.settings import ConductorSettings
from core.service import run_service


def main() -> int:
    return run_service("conductor", ConductorSettings(), bootstrap)


if __name__ == "__main__":
    sys.exit(main())
