"""Errors as a person should see them: a line that says what, a line that says what to do, and an exit code."""

from __future__ import annotations

import errno
import os
import re
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
# What was looked into is not well; the command itself has done its work.
EXIT_BROKEN = 5
EXIT_INTERRUPTED = 130

DEBUG = "CIRRA_DEBUG"

# When the cloud had no advice to give.
_REMEDIES: tuple[tuple[type[CirraApiError], str], ...] = (
    (NotFound, "check the name, and the project that you work in; the list command shows what there is"),
    (AlreadyExists, "choose another name, or use the one that is there"),
    (Unauthenticated, "check user and password, or run `cirra login`"),
    (PermissionDenied, "ask an administrator of the cloud"),
)
# What the cloud calls a thing → the command's noun.
_NOUNS = {
    **{kind: kind for kind in ("flavor", "image", "network", "subnet", "port", "project", "user", "host", "aggregate")},
    **{
        "instance": "server",
        "key pair": "keypair",
        "server group": "server group",
        "security group": "security group",
        "operation": "operation",
    },
}
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
    except typer.Abort as error:
        # A question was not answered: Ctrl-C, or Ctrl-D.
        console(sys.stderr).print("interrupted")
        raise typer.Exit(EXIT_INTERRUPTED) from error
    except BrokenPipeError:
        # The reader has seen enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except OSError as error:
        _end(_of_a_file(error), EXIT_USAGE, error)
    except ValueError as error:
        # Protobuf's words for a number that does not fit its field.
        if not str(error).startswith("Value out of range: "):
            _end(_own_fault(error), EXIT_CLOUD, error)
        number = str(error).rpartition(" ")[2]
        _end(UsageError(f"{number} is more than there can be", remedy="give a smaller number"), EXIT_USAGE, error)
    except Exception as error:
        _end(_own_fault(error), EXIT_CLOUD, error)


def _of_a_file(error: OSError) -> UsageError:
    if error.filename is None:
        return UsageError(str(error))
    remedy = {
        errno.ENOENT: "check the file's name: it is looked for from where you are",
        errno.EACCES: "ask its owner for leave to read it, or run the command as one who may",
        errno.EISDIR: "give a file, not a folder",
    }
    return UsageError(f"{error.filename}: {error.strerror}", remedy=remedy.get(error.errno or 0, "check the file"))


def _own_fault(error: Exception) -> CirraError:
    remedy = f"this is a fault of the client: run it again with {DEBUG}=1 and report what it says"
    return CirraError(f"{type(error).__name__}: {error}", remedy=remedy)


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
    if isinstance(error, NotFound) and (lists := _lists(error.message)):
        return f"{error.remedy or 'check the name'}; what there is: {lists}"
    if error.remedy:
        return error.remedy
    if isinstance(error, CirraApiError):
        if error.field_violations:
            return "correct what is named, and run the command again"
        return next((remedy for kind, remedy in _REMEDIES if isinstance(error, kind)), _NO_REMEDY)
    return "see the command's --help"


def _lists(message: str) -> str:
    """The commands that list what was not found: "no flavor 'huge'; no image 'x'" → cirra flavor list, …"""
    kinds = dict.fromkeys(re.findall(rf"\bno ({'|'.join(_NOUNS)}) '", message))
    return ", ".join(f"`cirra {_NOUNS[kind]} list`" for kind in kinds)


def _end(error: CirraError, code: int, cause: BaseException | None = None) -> NoReturn:
    if debugging():
        traceback.print_exception(cause or error)
    complain(error)
    raise typer.Exit(code)
