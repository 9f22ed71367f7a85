"""Checking the fields of a request: every violation is named at once, each with its remedy."""

from __future__ import annotations

import re
from uuid import UUID

from core import fields
from core.errors import FieldViolation, InvalidArgument
from core.ids import last_segment, parse_uuid
from core.pki.identity import Identity

_LABEL = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class Fields(fields.Fields):
    """With what only the conductor checks."""

    def label(self, field: str, value: str) -> None:
        if not _LABEL.fullmatch(value):
            self.refuse(field, f"{value!r} is no label: give 1 to 63 lower-case letters, digits, hyphens, underscores")


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
