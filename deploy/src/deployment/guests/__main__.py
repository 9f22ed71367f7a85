"""`python -m deployment.guests tiny|debian`: prints the path of the image, builds it first if need be."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from deployment.guests.cache import DEFAULT_CACHE_DIR, build
from deployment.guests.errors import GuestBuildError
from deployment.guests.image import GUEST_KINDS


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 with the path on standard output, 1 on an error, 130 on Ctrl-C.

    Progress and errors go to standard error.
    """
    parser = argparse.ArgumentParser(prog="python -m deployment.guests", description=__doc__)
    parser.add_argument("kind", choices=GUEST_KINDS)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE_DIR, metavar="DIR")
    parser.add_argument("--rebuild", action="store_true", help="make a new image of today's packages")
    options = parser.parse_args(arguments)
    try:
        image = build(
            options.kind,
            options.cache,
            rebuild=options.rebuild,
            on_progress=lambda message: print(message, file=sys.stderr, flush=True),
        )
    except (GuestBuildError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(image.path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
