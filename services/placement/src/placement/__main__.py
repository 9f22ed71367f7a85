"""`cirra-placement`: one replica of the scheduler."""

from __future__ import annotations

import sys

from core.service import run_service
from placement.bootstrap import bootstrap
from placement.settings import PlacementSettings


def main() -> int:
    return run_service("placement", PlacementSettings(), bootstrap)


if __name__ == "__main__":
    sys.exit(main())
