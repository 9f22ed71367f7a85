"""`cirra completion`: what a shell needs to complete commands, options and the names of things."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", help="Which one.")]) -> None:
    """Print the completion of a shell. Bash: source <(cirra completion bash); fish: cirra completion fish | source."""
    from typer.completion import get_completion_script

    typer.echo(get_completion_script(prog_name="cirra", complete_var="_CIRRA_COMPLETE", shell=shell))
