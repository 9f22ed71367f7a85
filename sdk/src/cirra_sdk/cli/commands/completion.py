"""`cirra completion`: what a shell needs to complete commands, options and the names of things."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


# Bash takes `net=lan` for three words, and leaves it to us to quote what has spaces. The words are therefore made of
# the line (as for fish, whose answers are a line each, with help after a tab); what bash holds for done is cut off.
_BASH = r"""
_cirra_completion() {
    local line="${COMP_LINE:0:COMP_POINT}" word="${COMP_WORDS[COMP_CWORD]}" token kept found IFS=$'\n'
    token="${line##*[[:space:]]}"
    [[ "$word" == [=:] ]] && word=""
    kept="${token%"$word"}"
    COMPREPLY=()
    for found in $(_TYPER_COMPLETE_ARGS="$line" _TYPER_COMPLETE_FISH_ACTION=get-args \
                   _CIRRA_COMPLETE=complete_fish "$1"); do
        found="${found%%$'\t'*}"
        [[ "$kept" == *[=:] ]] && found="${found#"$kept"}"
        COMPREPLY+=("$(printf %q "$found")")
    done
    [[ ${#COMPREPLY[@]} == 1 && "${COMPREPLY[0]}" == *= ]] && compopt -o nospace
    return 0
}
complete -o default -F _cirra_completion cirra
"""


def completion(shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", help="Which one.")]) -> None:
    """Print the completion of a shell. Bash: source <(cirra completion bash); fish: cirra completion fish | source."""
    from typer.completion import get_completion_script

    if shell is Shell.BASH:
        typer.echo(_BASH.strip())
    else:
        typer.echo(get_completion_script(prog_name="cirra", complete_var="_CIRRA_COMPLETE", shell=shell))
