"""What the commands of `cirra-deploy` share: options, and how they speak."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from cirra_sdk.errors import CirraError as CloudError
from core.errors import CirraError
from deployment.layout import Layout
from deployment.libvirtd import LibvirtdError
from deployment.settings import DeploySettings

# 128 + SIGINT, as shells tell it.
_INTERRUPTED = 130

StateDir = Annotated[
    Path | None, typer.Option("--state-dir", help="Where everything is kept [default: /var/lib/cirra/dev]")
]


def layout_of(state_dir: Path | None, settings: DeploySettings) -> Layout:
    return Layout((state_dir or settings.state_dir).absolute())


def tell(line: str) -> None:
    """Progress goes to standard error, results to standard output."""
    typer.echo(line, err=True)


def require_root() -> None:
    if os.geteuid() != 0:
        raise CirraError("this needs root: guests, bridges and namespaces are made", remedy="sudo make …")


@contextmanager
def clear_errors() -> Iterator[None]:
    """One line says what went wrong, the next what to do."""
    try:
        yield
    except (CirraError, CloudError, LibvirtdError, OSError) as error:
        tell(f"error: {error}")
        if remedy := getattr(error, "remedy", ""):
            tell(f"→ {remedy}")
        sys.exit(1)
    except ValidationError as error:
        for wrong in error.errors():
            tell(f"error: CIRRA_{'_'.join(map(str, wrong['loc'])).upper()}: {wrong['msg']}")
        tell("→ correct the variable, see docs/operations.md")
        sys.exit(1)
    except KeyboardInterrupt:
        tell("interrupted; what was started goes on")
        tell("→ see `make status`; `make down` ends it, in whatever state it is")
        sys.exit(_INTERRUPTED)
