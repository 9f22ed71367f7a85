"""Pages of lists (AIP-158): in order of uid, which a UUIDv7 makes the order of creation, or the newest first."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Any

from core.errors import FieldViolation, InvalidArgument

DEFAULT_SIZE = 50
MAX_SIZE = 1000
_DIGEST_BYTES = 8


@dataclass(frozen=True, slots=True)
class Page:
    """Which page is asked for: `size` items that follow `after`, the mark of the last item before ("": none)."""

    size: int
    after: str
    _filters: bytes

    def token(self, last: str) -> str:
        """The page that follows the item with this mark."""
        return base64.urlsafe_b64encode(self._filters + last.encode()).decode().rstrip("=")


def page_of(request: Any) -> Page:
    """Of a request with `page_size` and `page_token`, and filters beside them.

    Raises InvalidArgument for a negative size, and for a token that is not one of a list with the same filters.
    """
    if request.page_size < 0:
        raise InvalidArgument(FieldViolation("page_size", f"give 1 to {MAX_SIZE}, or 0 for {DEFAULT_SIZE}"))
    size = min(request.page_size or DEFAULT_SIZE, MAX_SIZE)
    filters = _digest(request)
    if not request.page_token:
        return Page(size, "", filters)
    try:
        padded = request.page_token + "=" * (-len(request.page_token) % 4)
        data = base64.b64decode(padded, altchars=b"-_", validate=True)
        after = data[_DIGEST_BYTES:].decode()
    except (binascii.Error, ValueError) as error:
        raise _bad_token() from error
    if data[:_DIGEST_BYTES] != filters or not after:
        raise _bad_token()
    return Page(size, after, filters)


def _bad_token() -> InvalidArgument:
    return InvalidArgument(
        FieldViolation("page_token", "it is not one that this list gave, with these filters: begin again without one")
    )


def _digest(request: Any) -> bytes:
    """Of what a page token is good for: the method and its filters."""
    filters = type(request)()
    filters.CopyFrom(request)
    filters.ClearField("page_size")
    filters.ClearField("page_token")
    name = request.DESCRIPTOR.full_name.encode()
    return hashlib.sha256(name + filters.SerializeToString(deterministic=True)).digest()[:_DIGEST_BYTES]
