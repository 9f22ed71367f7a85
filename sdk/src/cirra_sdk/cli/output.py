"""Data on stdout, in the format asked for; everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from rich.console import Console, RenderableType
    from rich.text import Text

# Without a terminal nothing is cut or wrapped: the reader is a program.
_NO_TERMINAL_WIDTH = 100_000

# A field's name in the views of people; what is not here is its words.
_TITLES = {"name": "Resource", "display_name": "Name", "uid": "ID", "create_time": "Created", "update_time": "Updated"}
_WORDS = {
    "cidr": "CIDR",
    "dhcp": "DHCP",
    "dns": "DNS",
    "etag": "ETag",
    "gib": "GiB",
    "id": "ID",
    "ip": "IP",
    "ips": "IPs",
    "mac": "MAC",
    "mib": "MiB",
    "mtu": "MTU",
    "nics": "NICs",
    "qos": "QoS",
    "sha256": "SHA-256",
    "url": "URL",
    "vcpus": "vCPUs",
}

_STYLES = {
    "ACTIVE": "green",
    "SUCCEEDED": "green",
    "UP": "green",
    "BUILD": "yellow",
    "RUNNING": "yellow",
    "QUEUED": "yellow",
    "ENROLLED": "yellow",
    "SUSPECTED": "yellow",
    "UNWINDING": "yellow",
    "UNDONE": "yellow",
    "ERROR": "bold red",
    "FAILED": "bold red",
    "STUCK": "bold red",
    "DOWN": "bold red",
    "REJECTED": "bold red",
}


class Format(StrEnum):
    """What `-o` takes."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a list. `whole`: never broken over lines, however narrow the terminal: it will be copied."""

    title: str
    value: Callable[[Any], object]
    right: bool = False
    whole: bool = False


def console(file: TextIO) -> Console:
    """Writes text as it is: no markup, no emoji; colours only on a terminal, and not with NO_COLOR."""
    from rich.console import Console

    class PipedConsole(Console):
        def on_broken_pipe(self) -> None:
            """A reader that has seen enough is dealt with by `cirra_sdk.cli.report`, for all ways of writing."""
            raise BrokenPipeError

    width = None if file.isatty() else _NO_TERMINAL_WIDTH
    return PipedConsole(file=file, width=width, markup=False, emoji=False, highlight=False, soft_wrap=not file.isatty())


class Output:
    """Where a command's results go."""

    def __init__(self, output_format: Format) -> None:
        self.format = output_format
        self.out = console(sys.stdout)
        self.err = console(sys.stderr)

    @property
    def is_table(self) -> bool:
        return self.format is Format.TABLE

    def note(self, text: str) -> None:
        """A word to the person, beside the data."""
        self.err.print(text)

    def resource(self, message: Message, *tables: RenderableType) -> None:
        """One resource; *tables* are how a person sees it (else: all its fields)."""
        if self.is_table:
            for table in tables or (fields_table(message),):
                self.out.print(table)
        else:
            self._write(message)

    def line(self, text: str) -> None:
        """A line of data."""
        self.out.print(text)

    def record(self, record: dict[str, Any]) -> None:
        """What is no message of the API, in json or yaml."""
        if self.format is Format.NAME:
            self.out.print(str(record["resource"]))
        else:
            self._dump(record)

    def records(self, records: Sequence[dict[str, Any]], columns: Sequence[Column]) -> None:
        """A list of what are no messages of the API; its names are the ids of the requests."""
        if self.is_table:
            self.out.print(list_table(records, columns))
        elif self.format is Format.NAME:
            for record in records:
                self.out.print(record["request_id"])
        else:
            self._dump(list(records))

    def resources(self, messages: Sequence[Any], columns: Sequence[Column]) -> None:
        """A list; an empty one is no error."""
        if self.is_table:
            self.out.print(list_table(messages, columns))
        elif self.format is Format.NAME:
            for message in messages:
                self._write(message)
        else:
            from cirra_sdk.cli.plain import plain

            self._dump([plain(message) for message in messages])

    def stream(self, message: Message, line: RenderableType, *, gone: bool = False) -> None:
        """One of many that come over time: a line each; YAML documents are separated. *gone*: it says `deleted`."""
        from cirra_sdk.cli.plain import plain

        if self.is_table:
            self.out.print(line)
        elif self.format is Format.NAME:
            self._write(message)
        else:
            document = {**plain(message), "deleted": True} if gone else plain(message)
            if self.format is Format.JSON:
                self.out.file.write(json.dumps(document, ensure_ascii=False) + "\n")
            else:
                self.out.file.write("---\n")
                self._dump(document)
        self.out.file.flush()

    def _write(self, message: Message) -> None:
        from cirra_sdk.cli.plain import plain

        if self.format is Format.NAME:
            self.out.print(short_name(message))
        else:
            self._dump(plain(message))

    def _dump(self, data: Any) -> None:
        if self.format is Format.JSON:
            self.out.file.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")
        else:
            import yaml

            yaml.safe_dump(data, self.out.file, sort_keys=False, allow_unicode=True)


def short_name(message: Any) -> str:
    """What a script goes on with: the resource name, or the one secret that an answer is about."""
    for field in ("access_token", "token", "name", "event_id", "instance", "resource", "uid"):
        if isinstance(value := getattr(message, field, None), str) and value:
            return value
    return ""


def list_table(messages: Iterable[Any], columns: Sequence[Column]) -> RenderableType:
    """One row per message. Texts are never taken for markup."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(
            column.title, justify="right" if column.right else "left", overflow="fold", no_wrap=column.whole
        )
    for message in messages:
        table.add_row(*(state_text(column.value(message)) for column in columns))
    return table


def pairs_table(pairs: Iterable[tuple[str, object]]) -> RenderableType:
    """Field and value."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, state_text(value))
    return table


def fields_table(message: Message) -> RenderableType:
    """All fields of a message, inner ones on one line."""
    from cirra_sdk.cli.plain import plain

    return pairs_table((_title(name), _one_line(value)) for name, value in plain(message).items())


def _title(field: str) -> str:
    """What a person reads for a field: `mac_address` is "MAC address"."""
    if field in _TITLES:
        return _TITLES[field]
    words = [_WORDS.get(word, word) for word in field.split("_")]
    if words[0].islower():
        words[0] = words[0].capitalize()
    return " ".join(words)


def state_text(value: object) -> Text:
    """A state has its colour; any other text is as it is."""
    from rich.text import Text

    text = "" if value is None else str(value)
    return Text(text, style=_STYLES.get(text, ""))


def _one_line(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_one_line(item) for item in value)
    if isinstance(value, dict):
        return " ".join(f"{key}={_one_line(item)}" for key, item in value.items())
    return str(value)
