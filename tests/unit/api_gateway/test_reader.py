"""Reading for a caller: what does not hold what the caller knows of is no answer."""

from __future__ import annotations

from typing import Any, cast

import pytest

from api_gateway.views.catalog import FLAVOR
from api_gateway.views.reader import Reader
from api_gateway.views.store import Found
from cirra.identity.v1.identity_pb2 import Principal
from core.errors import NotFound, Unavailable


class EmptyStore:
    """Rows that have just been begun anew."""

    def __init__(self) -> None:
        self.position = 0

    async def query(self, *_: Any) -> Found[Any]:
        return Found(self.position, [])


async def test_an_answer_from_before_what_is_known_is_none() -> None:
    store = EmptyStore()
    reader = Reader(cast(Any, store), Principal())
    reader.at_least = 7
    with pytest.raises(Unavailable) as behind:
        await reader.find(FLAVOR, "m1")
    assert behind.value.reason == "READ_MODEL_BEHIND"
    store.position = 7
    with pytest.raises(NotFound):
        await reader.find(FLAVOR, "m1")
    assert reader.position == 7
