"""`cirra-compute-agent`."""

from __future__ import annotations

import sys

from compute_agent.bootstrap import bootstrap
from compute_agent.settings import ComputeAgentSettings
from core.service import run_service


def main() -> int:
    return run_service("compute-agent", ComputeAgentSettings(), bootstrap)


if __name__ == "__main__":
    sys.exit(main())
