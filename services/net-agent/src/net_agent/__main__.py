"""`cirra-net-agent`: the agent; with `--cleanup`, the end of all that it made on this host."""

from __future__ import annotations

import argparse
import asyncio
import sys

from core.service import run_service
from net_agent.bootstrap import bootstrap, make_namespaces
from net_agent.settings import NetAgentSettings
from net_agent.teardown import teardown


def main() -> int:
    parser = argparse.ArgumentParser(prog="cirra-net-agent", description="Cirra's network agent; settings: CIRRA_*")
    parser.add_argument(
        "--cleanup", action="store_true", help="remove every tap, bridge, namespace and process that it made, and exit"
    )
    arguments = parser.parse_args()
    settings = NetAgentSettings()
    if arguments.cleanup:
        asyncio.run(teardown(settings.state_directory, make_namespaces(settings)))
        return 0
    return run_service("net-agent", settings, bootstrap)


if __name__ == "__main__":
    sys.exit(main())
