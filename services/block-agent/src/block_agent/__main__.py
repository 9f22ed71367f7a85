"""`cirra-block-agent`."""

from __future__ import annotations

import sys

from block_agent.bootstrap import bootstrap
from block_agent.settings import BlockAgentSettings
from core.service import run_service


def main() -> int:
    return run_service("block-agent", BlockAgentSettings(), bootstrap)


if __name__ == "__main__":
    sys.exit(main())
