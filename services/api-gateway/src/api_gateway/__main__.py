"""`cirra-api-gateway`: one replica of the front door. With `--rebuild`: builds its read model again, and ends."""

from __future__ import annotations

import argparse
import sys

from api_gateway.bootstrap import SERVICE, bootstrap, rebuild
from api_gateway.settings import GatewaySettings
from core.projection import Progress
from core.service import Lifetime, run_service


def main() -> int:
    parser = argparse.ArgumentParser(prog=f"cirra-{SERVICE}", description=__doc__)
    parser.add_argument("--rebuild", action="store_true", help="rebuild the read model from the log, and end")
    arguments = parser.parse_args()
    settings = GatewaySettings()
    if not arguments.rebuild:
        return run_service(SERVICE, settings, bootstrap)

    async def once(lifetime: Lifetime, settings: GatewaySettings) -> None:
        await rebuild(lifetime, settings, _print)

    return run_service(f"{SERVICE}-rebuild", settings, once)


def _print(progress: Progress) -> None:
    share = progress.position / progress.target if progress.target else 1.0
    print(
        f"{progress.position}/{progress.target} events ({share:.0%}), {progress.events_per_s:,.0f} events/s", flush=True
    )


if __name__ == "__main__":
    sys.exit(main())
