"""The reference part of docs/cli.md, made of the commands themselves.

Usage: python -m cirra_sdk.cli.reference docs/cli.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from cirra_sdk.cli.main import app

BEGIN = "<!-- commands: written by `python -m cirra_sdk.cli.reference docs/cli.md` -->\n"
# Every command has them; they are told once, by hand.
_COMMON = {"--help", "--output"}


def with_reference(page: str) -> str:
    """The page with its reference part made anew. Raises ValueError when it has no place for one."""
    tour, begin, _ = page.partition(BEGIN)
    if not begin:
        raise ValueError(f"the page has no line {BEGIN.strip()!r}")
    return tour + begin + "\n" + "\n".join(reference())


def reference() -> Iterator[str]:
    """Line by line: a heading for each noun, an item for each command, one for each of its options."""
    root: Any = get_command(app)
    yield "### cirra"
    yield from _options(root, "")
    yield ""
    for name, entry in root.commands.items():
        if not hasattr(entry, "commands"):
            yield from _command(f"cirra {name}", entry)
    yield ""
    for name, entry in root.commands.items():
        if hasattr(entry, "commands") and not entry.hidden:
            yield f"### cirra {name}"
            yield entry.help
            yield ""
            yield from _verbs(f"cirra {name}", entry)
            yield ""


def _verbs(name: str, group: Any) -> Iterator[str]:
    """Those of a noun of two words ("server group") stand with its first."""
    for verb, entry in group.commands.items():
        if hasattr(entry, "commands"):
            yield from _verbs(f"{name} {verb}", entry)
        else:
            yield from _command(f"{name} {verb}", entry)


def _command(name: str, command: Any) -> Iterator[str]:
    arguments = [_metavar(parameter) for parameter in command.params if parameter.param_type_name == "argument"]
    yield f"- `{' '.join([name, *arguments])}`: {' '.join(command.help.split())}"
    yield from _options(command, "  ")


def _options(command: Any, indent: str) -> Iterator[str]:
    for option in command.params:
        if option.param_type_name != "option" or _COMMON.intersection(option.opts) or option.hidden:
            continue
        value = "" if option.is_flag else f" {_metavar(option)}"
        required = " (required)" if option.required else ""
        yield f"{indent}- `{', '.join(option.opts)}{value}`{required}: {option.help or ''}".rstrip(": ")


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper().replace("_", "-"))


def main() -> None:
    """Writes the page named by the first argument."""
    page = Path(sys.argv[1])
    page.write_text(with_reference(page.read_text()))


if __name__ == "__main__":
    main()
