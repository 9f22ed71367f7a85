"""`cirra-conductor`: one replica of the write side. With an option, a task instead, which ends by itself."""

from __future__ import annotations

import sys

from conductor.bootstrap import bootstrap
from conductor.fabric.projection import FabricProjection
from conductor.hosts.desired_state import DesiredStateProjection
from conductor.new_epoch import beginning_epoch
from conductor.operations.unfinished import UnfinishedProjection
from conductor.settings import ConductorSettings
from core.rebuild import argument_parser, run_or_rebuild
from core.service import run_service


def main() -> int:
    parser = argument_parser("conductor")
    parser.add_argument(
        "--begin-epoch",
        metavar="ABOVE",
        type=int,
        help="begin a new epoch of the log, higher than ABOVE too: an older one was restored; and end",
    )
    arguments = parser.parse_args()
    settings = ConductorSettings()
    if arguments.begin_epoch is not None:
        return run_service("conductor-new-epoch", settings, beginning_epoch(arguments.begin_epoch))
    projections = (DesiredStateProjection(), UnfinishedProjection(), FabricProjection())
    return run_or_rebuild("conductor", settings, bootstrap, projections, "conductor", arguments)


if __name__ == "__main__":
    sys.exit(main())
