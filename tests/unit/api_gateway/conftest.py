"""A history of its own for each test."""

from __future__ import annotations

import pytest

from tests.unit.api_gateway.history import History


@pytest.fixture
def history() -> History:
    return History()
