"""The trees that a guest walks: directories of values, and of secrets that are opened only for who asks. Pure.

Two trees are under one root: OpenStack's below `/openstack`, EC2's everywhere else, and below `/ec2` as Nova has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum, auto
from typing import TypeAlias


class Secret(Enum):
    """A value that is sealed where it is stored."""

    USER_DATA = auto()
    PASSWORD = auto()


Value: TypeAlias = str | bytes | Secret
# An entry may be made when it is asked for.
Entry: TypeAlias = "Value | Directory | Callable[[], Value | Directory]"


class Directory:
    """A level of a tree. `listing`: its lines; without, the names in order, those of directories with a slash."""

    def __init__(self, entries: Mapping[str, Entry], listing: Iterable[str] | None = None) -> None:
        self._entries = dict(entries)
        self._listing = None if listing is None else tuple(listing)

    def get(self, name: str) -> Value | Directory | None:
        entry = self._entries.get(name)
        return entry() if callable(entry) else entry

    def also(self, unlisted: Mapping[str, Entry]) -> Directory:
        """One with further entries, which its listing does not tell of."""
        return Directory({**self._entries, **unlisted}, self.listing().splitlines())

    def listing(self) -> str:
        """One entry a line, as EC2 and Nova list them."""
        lines = self._listing if self._listing is not None else sorted(map(self._line, self._entries))
        return "\n".join(lines)

    def _line(self, name: str) -> str:
        return f"{name}/" if isinstance(self.get(name), Directory) else name


def find(root: Directory, path: str) -> Value | None:
    """What is at a path ("/latest/meta-data/"): a value, or a directory's listing; None when there is nothing.

    Slashes that lead to nothing are of no account, as to Nova: at the end, or several in a row.
    """
    entry: Value | Directory | None = root
    for name in filter(None, path.split("/")):
        if not isinstance(entry, Directory):
            return None
        entry = entry.get(name)
    return entry.listing() if isinstance(entry, Directory) else entry
