"""Checking the fields of a request: every violation is named at once, each with its remedy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from uuid import UUID

from core.errors import FieldViolation, InvalidArgument
from core.ids import last_segment, parse_uuid
from core.pki.identity import Identity

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9 ._@+-]{0,61}[A-Za-z0-9._@+-])?")
_LABEL = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
MAX_TEXT = 255


class Fields:
    """Collects the violations of one request; `check` raises them together. `prefix`: "flavor."."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._violations: list[FieldViolation] = []

    def refuse(self, field: str, description: str) -> None:
        self._violations.append(FieldViolation(f"{self._prefix}{field}", description))

    def check(self) -> None:
        """Raises InvalidArgument if anything was refused."""
        if self._violations:
            raise InvalidArgument(*self._violations)

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

    def label(self, field: str, value: str) -> None:
        if not _LABEL.fullmatch(value):
            self.refuse(field, f"{value!r} is no label: give 1 to 63 lower-case letters, digits, hyphens, underscores")

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


def is_name(text: str) -> bool:
    """Whether anything can have this as its unique name."""
    return _NAME.fullmatch(text) is not None


def uid(field: str, text: str) -> UUID:
    """The uid in a reference: a uid or a resource name that ends in one. Raises InvalidArgument."""
    if not text:
        raise InvalidArgument(FieldViolation(field, "it is empty: give a resource name or a uid"))
    found = parse_uuid(last_segment(text))
    if found is None:
        raise InvalidArgument(FieldViolation(field, f"{text!r} is neither a resource name nor a uid"))
    return found


def host_name(field: str, text: str) -> str:
    """The host that a name or resource name is of. Raises InvalidArgument unless it is one lower-case DNS label."""
    try:
        return Identity.host(last_segment(text)).name
    except InvalidArgument as error:
        description = f"{text!r} is no host's name: give at most 63 lower-case letters, digits and hyphens"
        raise InvalidArgument(FieldViolation(field, description)) from error
