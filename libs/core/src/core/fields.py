"""Checking the fields of a request: every violation is named at once, each with its remedy.

The gateway checks first, the domain decides: both by these rules, so that they can't drift apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from core.errors import FieldViolation, InvalidArgument

MAX_TEXT = 255
MAX_REASON = 1000
MAX_TAGS = 50
MAX_TAG = 60
# What is unique somewhere is typed by people: no surprises in it.
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9 ._@+-]{0,61}[A-Za-z0-9._@+-])?")


class Fields:
    """Collects the violations of one request; `check` raises them together. `prefix`: "flavor."."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self.violations: list[FieldViolation] = []

    def refuse(self, field: str, description: str) -> None:
        self.violations.append(FieldViolation(f"{self._prefix}{field}", description))

    def check(self) -> None:
        """Raises InvalidArgument if anything was refused."""
        if self.violations:
            raise InvalidArgument(*self.violations)

    def name(self, field: str, value: str) -> None:
        """A name that is unique somewhere: it is typed by people, and shown in tables."""
        if not is_name(value):
            self.refuse(
                field,
                f"{value!r} is no name: give 1 to 63 letters, digits, spaces or any of . _ @ + -, "
                "beginning with a letter or digit",
            )

    def title(self, field: str, value: str, *, required: bool = True) -> None:
        """A display name that need not be unique, or a description."""
        if required and not value.strip():
            self.refuse(field, "it is empty: give a name")
        elif len(value) > MAX_TEXT or not value.isprintable():
            self.refuse(field, f"give at most {MAX_TEXT} printable characters")

    def reason(self, field: str, value: str, *, required: bool) -> None:
        """Why somebody did something: a sentence or two, kept for ever."""
        if required and not value.strip():
            self.refuse(field, "it is empty: say why, others will ask")
        elif len(value) > MAX_REASON or not value.isprintable():
            self.refuse(field, f"give at most {MAX_REASON} printable characters")

    def between(self, field: str, value: int, low: int, high: int, unit: str = "") -> None:
        if not low <= value <= high:
            self.refuse(field, f"{value} is out of range: give {low} to {high}{f' {unit}' if unit else ''}")

    def texts(self, field: str, values: Mapping[str, str]) -> None:
        """Keys and values of a map of texts."""
        if len(values) > 128:
            self.refuse(field, "give at most 128 entries")
        for key, value in values.items():
            if not key or len(key) > MAX_TEXT or len(value) > MAX_TEXT or not (key + value).isprintable():
                self.refuse(
                    f"{field}[{key[:40]!r}]", f"give keys and values of at most {MAX_TEXT} printable characters"
                )

    def tags(self, field: str, values: Sequence[str]) -> None:
        """Labels, as compute's API has them: few, short, different, and good for a comma-separated list or a path."""
        if len(values) > MAX_TAGS:
            self.refuse(field, f"give at most {MAX_TAGS}")
        for index, value in enumerate(values[: MAX_TAGS + 1]):
            if not 1 <= len(value) <= MAX_TAG or not value.isprintable() or {",", "/"} & {*value}:
                self.refuse(f"{field}[{index}]", f"give 1 to {MAX_TAG} printable characters other than comma and slash")
            elif value in values[:index]:
                self.refuse(f"{field}[{index}]", f"{value!r} is given twice: give it once")


def is_name(text: str) -> bool:
    """Whether anything can have this as its unique name."""
    return _NAME.fullmatch(text) is not None
