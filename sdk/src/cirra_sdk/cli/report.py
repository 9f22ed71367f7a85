"""Errors as a person should see them: a line that says what, a line that says what to do, and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from cirra_sdk.cli.output import console
from cirra_sdk.errors import (
    AlreadyExists,
    CirraApiError,
    CirraError,
    ConfigurationError,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unreachable,
)

EXIT_CLOUD = 1
EXIT_USAGE = 2
EXIT_NOT_FOUND = 3
EXIT_UNREACHABLE = 4
EXIT_INTERRUPTED = 130

DEBUG = "CIRRA_DEBUG"

# When the cloud had no advice to give.
_REMEDIES: tuple[tuple[type[CirraApiError], str], ...] = (
    (NotFound, "check the name, and the project that you work in; the list command shows what there is"),
    (AlreadyExists, "choose another name, or use the one that is there"),
    (Unauthenticated, "check user and password, or run `cirra login`"),
    (PermissionDenied, "ask an administrator of the cloud"),
)
_NO_REMEDY = "try again; if it stays so, show `cirra service list` and this message to an administrator"


class UsageError(CirraError):
    """The command was not meant so: exit code 2."""


@contextmanager
def reported() -> Iterator[None]:
    """Ends the command with the right message and exit code whatever goes wrong inside."""
    try:
        yield
    except typer.Exit:
        raise
    except CirraError as error:
        _end(error, exit_code(error))
    except KeyboardInterrupt as error:
        console(sys.stderr).print("interrupted")
        raise typer.Exit(EXIT_INTERRUPTED) from error
    except BrokenPipeError:
        # The reader has seen enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except OSError as error:
        _end(UsageError(f"{error.filename}: {error.strerror}" if error.filename else str(error)), EXIT_USAGE, error)
    except Exception as error:
        remedy = f"this is a fault of the client: run it again with {DEBUG}=1 and report what it says"
        _end(CirraError(f"{type(error).__name__}: {error}", remedy=remedy), EXIT_CLOUD, error)


def debugging() -> bool:
    """Whether the person wants to know more than is good for reading."""
    return os.environ.get(DEBUG, "") not in ("", "0")


def exit_code(error: CirraError) -> int:
    if isinstance(error, ConfigurationError | UsageError):
        return EXIT_USAGE
    if isinstance(error, NotFound):
        return EXIT_NOT_FOUND
    return EXIT_UNREACHABLE if isinstance(error, Unreachable) else EXIT_CLOUD


def complain(error: CirraError) -> None:
    """What, and what to do."""
    err = console(sys.stderr)
    for number, line in enumerate(_what(error)):
        err.print(f"error: {line}" if number == 0 else f"       {line}", style="red")
    err.print(f"remedy: {_remedy(error)}")


def _what(error: CirraError) -> list[str]:
    if not isinstance(error, CirraApiError):
        return [error.message]
    if error.field_violations:
        lines = [f"{violation.field}: {violation.description}" for violation in error.field_violations]
        # The usual reason says no more than that fields are wrong.
        return lines if error.reason == "INVALID_ARGUMENT" else [*lines[:-1], f"{lines[-1]} ({error.reason})"]
    return [f"{error.message or 'it failed'} ({error.reason})"]


def _remedy(error: CirraError) -> str:
    if error.remedy:
        return error.remedy
    if isinstance(error, CirraApiError):
        if error.field_violations:
            return "correct what is named, and run the command again"
        return next((remedy for kind, remedy in _REMEDIES if isinstance(error, kind)), _NO_REMEDY)
    return "see the command's --help"


def _end(error: CirraError, code: int, cause: BaseException | None = None) -> NoReturn:
    if debugging():
        traceback.print_exception(cause or error)
    complain(error)
    raise typer.Exit(code)
