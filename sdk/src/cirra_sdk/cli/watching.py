"""`--watch`: what a list or a show finds, again after every change, until the person has seen enough.

On a terminal it is drawn anew in its place. In a pipe, lines are appended: first all, then each change; with `-o json`
one document per line, with `-o yaml` one after `---`, for each thing that is new, changed or gone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cirra_sdk.cli.output import Column, Format, Output, short_name
from cirra_sdk.cli.text import parse_time
from cirra_sdk.errors import NotFound

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from rich.console import RenderableType
    from rich.live import Live

    from cirra_sdk.cli.command import Session
    from cirra_sdk.client import AsyncClient

# What makes no events (how long a service has been silent) is looked at so often.
LOOK_AT_LEAST_EVERY_S = 5.0
# Of a busy cloud nobody can read more; and looking takes at most a third of the time.
LOOK_AT_MOST_EVERY_S = 0.5

Look = Callable[["Session", str], Awaitable[None]]
"""A command that lists or shows. Its second argument, if not "", goes before the name that the person gave."""


@dataclass(slots=True)
class Found:
    """What one look has found: the things, and how a person sees them."""

    things: list[Message] = field(default_factory=list)
    tables: list[RenderableType] = field(default_factory=list)
    is_list: bool = False


class Gathering(Output):
    """Keeps what a command would print."""

    def __init__(self, output_format: Format) -> None:
        super().__init__(output_format)
        self.found = Found()

    def resource(self, message: Message, *tables: RenderableType) -> None:
        from cirra_sdk.cli.output import fields_table

        self.found.things.append(message)
        self.found.tables += tables or (fields_table(message),)

    def resources(self, messages: Sequence[Any], columns: Sequence[Column]) -> None:
        from cirra_sdk.cli.output import list_table

        self.found.is_list = True
        self.found.things += messages
        self.found.tables.append(list_table(messages, columns))

    def note(self, text: str) -> None:
        """Words beside the data are for those who look once."""


async def watched(session: Session, look: Look) -> None:
    """Looks now and after every change, for ever; a thing that is shown ends it by being deleted.

    Raises what *look* raises, NotFound only if the thing was not there to begin with.
    """
    output = session.output
    shown: Drawn | Appended = Drawn(output) if output.is_table and output.out.is_terminal else Appended(output)
    seen: list[Message] = []

    async def again() -> bool:
        gathering = Gathering(output.format)
        try:
            # By its resource name, once that is known: it may be renamed meanwhile.
            await look(replace(session, output=gathering), getattr(seen[0], "name", "") if seen else "")
        except NotFound:
            if not seen:
                raise
            shown.show(Found())
            output.note("it is gone")
            return False
        shown.show(gathering.found)
        if not gathering.found.is_list:
            seen[:] = gathering.found.things
        return True

    with shown:
        await _after_every_change(session.client, again)


async def _after_every_change(client: AsyncClient, act: Callable[[], Awaitable[bool]]) -> None:
    """Acts at once and whenever something has happened, until *act* says that it is enough."""
    happened = asyncio.Event()

    async def listen() -> None:
        async with aclosing(client.events.watch()) as events:
            async for _ in events:
                happened.set()

    listening = asyncio.create_task(listen())
    listening.add_done_callback(lambda _: happened.set())
    try:
        while True:
            happened.clear()
            if listening.done():
                listening.result()
            begin = time.monotonic()
            if not await act():
                return
            await asyncio.sleep(max(LOOK_AT_MOST_EVERY_S, 2 * (time.monotonic() - begin)))
            await _either(happened, LOOK_AT_LEAST_EVERY_S)
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def _either(happened: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await happened.wait()
    except TimeoutError:
        return


class Drawn:
    """On a terminal, always at the same place."""

    def __init__(self, output: Output) -> None:
        from rich.live import Live

        self._live: Live = Live(console=output.out, auto_refresh=False)

    def __enter__(self) -> Drawn:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def show(self, found: Found) -> None:
        from rich.console import Group
        from rich.text import Text

        if not found.tables:
            return
        at = Text(f"{_now()}; Ctrl-C ends it", style="dim")
        self._live.update(Group(*found.tables, "", at), refresh=True)


class Appended:
    """In a pipe: only what is new since the last look."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._known: dict[str, Message] | None = None

    def __enter__(self) -> Appended:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def show(self, found: Found) -> None:
        known, self._known = self._known, {_key(thing): thing for thing in found.things}
        if self._output.is_table:
            for line in found.tables if known is None else _lines(known, self._known, named=found.is_list):
                self._output.out.print(line)
            self._output.out.file.flush()
        else:
            for thing, gone in _news(known or {}, self._known):
                self._output.stream(thing, "", gone=gone)


def _news(known: dict[str, Message], now: dict[str, Message]) -> Iterator[tuple[Message, bool]]:
    """(thing, whether it is gone), of those that are new, otherwise than they were, or gone."""
    for key, thing in now.items():
        if key not in known or known[key] != thing:
            yield thing, False
    for key, thing in known.items():
        if key not in now:
            yield thing, True


def _lines(known: dict[str, Message], now: dict[str, Message], *, named: bool) -> Iterator[str]:
    """One for each thing: what of it changed. *named*: with what it is called, as one of many."""
    from cirra_sdk.cli.changes import changes

    for thing, gone in _news(known, now):
        before = known.get(_key(thing))
        begin = f"{_now()}  {_called(thing)}: " if named else f"{_now()}  "
        if gone:
            yield f"{begin}gone"
        elif before is None:
            yield f"{begin}new, {_told((change.field, None, change.after) for change in changes(None, thing))}"
        elif told := _told((change.field, change.before, change.after) for change in changes(before, thing)):
            yield f"{begin}{told}"


def _told(changes: Iterable[tuple[str, Any, Any]]) -> str:
    return ", ".join(
        f"{name} {after}" if before is None else f"{name} {before} → {'-' if after is None else after}"
        for name, before, after in changes
        if name not in ("name", "uid", "silence_ms")
    )


def _key(thing: Any) -> str:
    """What makes it the same one: its uid, or all that it is called."""
    return getattr(thing, "uid", "") or " ".join(
        str(getattr(thing, name, "")) for name in ("service", "instance", "name", "resource")
    )


def _called(thing: Any) -> str:
    return str(getattr(thing, "display_name", "") or short_name(thing).rpartition("/")[2] or _key(thing).strip())


def _now() -> str:
    return parse_time("now").strftime("%Y-%m-%dT%H:%M:%SZ")
