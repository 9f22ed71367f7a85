"""What every command has: the cloud's client, `-o`, errors as `cirra_sdk.cli.report` tells them."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from cirra_sdk.cli.output import Format, Output
from cirra_sdk.cli.report import EXIT_CLOUD, UsageError, complain, debugging, exit_code, reported
from cirra_sdk.errors import CirraError

if TYPE_CHECKING:
    from cirra_sdk.client import AsyncClient
    from cirra_sdk.config import Profile
    from cirra_sdk.state import Memory

# A person waits; a program that uses the SDK may have more patience.
RETRY_FOR_S = 6.0

WatchOption = Annotated[bool, typer.Option("-w", "--watch", help="Go on, with each change, until interrupted.")]
OutputOption = Annotated[Format, typer.Option("-o", "--output", help="How to print what is found.")]


@dataclass(frozen=True, slots=True)
class Globals:
    """Options before the command: which cloud, and as whom."""

    cloud: str = ""
    project: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """What a command works with."""

    client: AsyncClient
    output: Output
    profile: Profile
    memory: Memory


Function = Callable[..., Awaitable[None]]


def group(name: str, about: str) -> typer.Typer:
    """Commands under one noun."""
    return typer.Typer(name=name, help=about, no_args_is_help=True, pretty_exceptions_enable=False)


def command(app: typer.Typer, name: str, *, watch: bool | None = None) -> Callable[[Function], Function]:
    """Makes `async def f(session, …)` a command of *app*, whose other parameters are arguments and options.

    The docstring is its help. *watch*: it has `--watch`, as have all that list or show, unless this says otherwise.
    """
    watchable = name in ("list", "show") if watch is None else watch

    def add(function: Function) -> Function:
        app.command(name)(_runner(function, watchable))
        return function

    return add


def _runner(function: Function, watchable: bool) -> Callable[..., None]:
    hints = get_type_hints(function, include_extras=True)
    own = [
        parameter.replace(annotation=hints[parameter.name])
        for parameter in list(inspect.signature(function).parameters.values())[1:]
    ]

    @wraps(function)
    def run(ctx: typer.Context, *, output: Format = Format.TABLE, watch: bool = False, **arguments: Any) -> None:
        if not debugging():
            # gRPC writes to stderr about connections, in words for its own developers.
            os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        with reported():
            if watch and arguments.get("as_of"):
                raise UsageError("--watch and --as-of: what was does not change; give one of them")
            asyncio.run(_with_session(function, ctx.obj or Globals(), output, arguments, watch=watch))

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("ctx", keyword, annotation=typer.Context),
        *(parameter.replace(kind=keyword) for parameter in own),
        *([inspect.Parameter("watch", keyword, default=False, annotation=WatchOption)] if watchable else []),
        inspect.Parameter("output", keyword, default=Format.TABLE, annotation=OutputOption),
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


async def _with_session(
    function: Function, told: Globals, output: Format, arguments: dict[str, Any], *, watch: bool
) -> None:
    from cirra_sdk.client import AsyncClient
    from cirra_sdk.config import resolve

    profile = resolve(told.cloud, project=told.project, user=told.user)
    printed = Output(output)
    memory = _memory(profile, printed)
    client = AsyncClient.of(profile, retry_for_s=RETRY_FOR_S, memory=memory)
    async with client:
        session = Session(client, printed, profile, memory)
        if not watch:
            await function(session, **arguments)
            return
        from cirra_sdk.cli.watching import watched

        async def look(looking: Session, name: str) -> None:
            known = {"name": name} if name and "name" in arguments else {}
            await function(looking, **{**arguments, **known})

        await watched(session, look)


def _memory(profile: Profile, printed: Output) -> Memory:
    """What the commands before this one have left: their token, and how much of the log they have seen."""
    from cirra_sdk.config import memory_directory
    from cirra_sdk.state import FileMemory, Memory

    try:
        memory = FileMemory(memory_directory() / profile.memory_name())
        memory.save()
    except OSError as error:
        printed.note(f"warning: {error.filename} can't be used ({error.strerror}): every command logs in anew")
        return Memory()
    return memory


async def each(names: list[str], act: Callable[[str], Awaitable[None]]) -> None:
    """*act* for every name, also after one that failed; the exit code is that of the first failure."""
    code = 0
    for name in names:
        try:
            await act(name)
        except CirraError as error:
            complain(error)
            code = code or exit_code(error) or EXIT_CLOUD
    if code:
        raise typer.Exit(code)
