"""What a refusal must be: of the right kind, its reason stable, field and remedy named, and nothing left."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cirra_sdk.errors import CirraApiError
from tests.harness.cloud import Cloud
from tests.harness.leftovers import nothing_left


@asynccontextmanager
async def refused(
    cloud: Cloud, kind: type[CirraApiError], reason: str, field: str = "", *, says: str = ""
) -> AsyncIterator[None]:
    """Fails unless the block is refused so, and leaves nothing. `says`: a part of message or remedy."""
    async with nothing_left(cloud):
        with pytest.raises(CirraApiError) as raised:
            yield
    check_refusal(raised.value, kind, reason, field, says=says)


def check_refusal(
    error: CirraApiError, kind: type[CirraApiError], reason: str, field: str = "", *, says: str = ""
) -> None:
    assert (type(error), error.reason) == (kind, reason), error
    told = f"{error.message} {error.remedy}"
    if error.field_violations:
        # The description of each ends with what to do.
        assert {field} <= {each.field for each in error.field_violations if each.description}, error
    else:
        assert error.remedy, f"{error} names no remedy"
        assert field in told or field == error.metadata.get("field"), error
    assert says in told, error
    assert not error.retryable, "the same call would never succeed"
