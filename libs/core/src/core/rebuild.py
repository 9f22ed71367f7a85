"""`--rebuild` of a service that projects: it drops its read models, builds them again from the log, and ends.

Safe while the service runs: whichever replica is active does the work, and reads wait for it.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence

from core.plane import open_plane
from core.projection import Progress, Projection, Projector
from core.service import Bootstrap, Lifetime, SettingsT, run_service


def argument_parser(service: str) -> argparse.ArgumentParser:
    """Of the arguments that `run_or_rebuild` knows."""
    parser = argparse.ArgumentParser(prog=f"cirra-{service}", description="Settings: environment variables CIRRA_*")
    parser.add_argument("--rebuild", action="store_true", help="rebuild the read models from the log, and end")
    return parser


def run_or_rebuild(
    service: str,
    settings: SettingsT,
    bootstrap: Bootstrap[SettingsT],
    projections: Sequence[Projection],
    schema: str,
    arguments: argparse.Namespace | None = None,
) -> int:
    """A service's `main`: its whole life or, with `--rebuild`, that of its rebuild. Returns the exit code.

    *schema*: of *projections*, without the cell's prefix. *arguments*: where the service has more of its own.
    """
    if not (arguments or argument_parser(service).parse_args()).rebuild:
        return run_service(service, settings, bootstrap)

    async def rebuild(lifetime: Lifetime, settings: SettingsT) -> None:
        plane = await open_plane(lifetime, service, settings, beating=False)

        async def one(projection: Projection) -> None:
            projector = Projector(
                projection,
                log=plane.log,
                bus=plane.bus,
                leases=plane.leases,
                schema=settings.schema_name(schema),
                holder=plane.runner,
            )
            await projector.rebuild(lambda progress: _print(projection.name, progress))

        await asyncio.gather(*map(one, projections))
        lifetime.stop()

    return run_service(f"{service}-rebuild", settings, rebuild)


def _print(name: str, progress: Progress) -> None:
    share = progress.position / progress.target if progress.target else 1.0
    speed = f"{progress.events_per_s:,.0f} events/s"
    print(f"{name}: {progress.position}/{progress.target} events ({share:.0%}), {speed}", flush=True)
