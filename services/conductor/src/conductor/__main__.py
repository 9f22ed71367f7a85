"""`cirra-conductor`: one replica of the write side. With `--rebuild`: builds its read models again, and ends."""

from __future__ import annotations

import sys

from conductor.bootstrap import bootstrap
from conductor.hosts.desired_state import DesiredStateProjection
from conductor.operations.unfinished import UnfinishedProjection
from conductor.settings import ConductorSettings
from core.rebuild import run_or_rebuild


def main() -> int:
    projections = (DesiredStateProjection(), UnfinishedProjection())
    return run_or_rebuild("conductor", ConductorSettings(), bootstrap, projections, schema="conductor")


if __name__ == "__main__":
    sys.exit(main())
