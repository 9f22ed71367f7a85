"""Arguments and options that several commands share, and how their texts are read."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from cirra_sdk.cli.report import UsageError
from cirra_sdk.cli.text import parse_fields, parse_moment, parse_pairs

T = TypeVar("T")

NewName = Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until it is done, and show each step on the way.")]
Timeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=0, help="With --wait: give up waiting; 0: never.")
]
AsOf = Annotated[
    str,
    typer.Option(
        "--as-of",
        metavar="TIME",
        help="As it was then: 2026-01-31T12:00:00Z, 10m (ago), or a position of the log.",
    ),
]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=0, help="At most so many; 0: all.")]
Properties = Annotated[
    list[str],
    typer.Option(
        "--property",
        metavar="KEY=VALUE",
        default_factory=list,
        show_default=False,
        help="To set on it; may be repeated.",
    ),
]


def read(parse: Callable[..., T], *args: object) -> T:
    """What *parse* makes of an option's text; a wrong text is a usage error."""
    try:
        return parse(*args)
    except ValueError as error:
        raise UsageError(str(error)) from error


def pairs(texts: list[str], option: str = "--property") -> dict[str, str]:
    return read(parse_pairs, texts, option)


def fields(text: str, option: str, names: dict[str, str]) -> dict[str, str]:
    """*names*: what may be written → what it means."""
    return read(parse_fields, text, option, names)


def moment_or_position(text: str, option: str) -> datetime | int | None:
    """None: nothing was told."""
    try:
        return parse_moment(text) if text else None
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error


def enum(enum_type: Any, text: str, option: str) -> Any:
    """ACTIVE → INSTANCE_STATUS_ACTIVE; "" is unspecified."""
    from cirra_sdk.cli.plain import enum_prefix

    prefix = enum_prefix(enum_type.DESCRIPTOR)
    wanted = f"{prefix}{text.upper()}" if text else f"{prefix}UNSPECIFIED"
    if wanted not in enum_type.keys():  # noqa: SIM118 - a wrapper of an enum, not a mapping
        known = ", ".join(name.removeprefix(prefix) for name in enum_type.keys()[1:])
        raise UsageError(f"{option} {text!r}: give one of {known}")
    return enum_type.Value(wanted)


def secret(question: str, *, confirm: bool = False) -> str:
    """What the person types, unseen; without a terminal, the first line of stdin. Raises UsageError for nothing."""
    if sys.stdin.isatty():
        return str(typer.prompt(question, hide_input=True, confirmation_prompt=confirm, err=True))
    if line := sys.stdin.readline().rstrip("\r\n"):
        return line
    raise UsageError(f"{question}: nothing came from stdin", remedy="type it on a terminal, or pipe it in")


def content(path: Path | None) -> bytes:
    """A file's content; `-` is stdin, None is nothing. Raises OSError."""
    if path is None:
        return b""
    return sys.stdin.buffer.read() if str(path) == "-" else path.expanduser().read_bytes()
