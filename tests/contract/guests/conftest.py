"""The tiny guest, built once for these tests in a cache of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployment.guests import GuestImage, build


@pytest.fixture(scope="session")
def tiny_image(tmp_path_factory: pytest.TempPathFactory) -> GuestImage:
    cache_dir: Path = tmp_path_factory.mktemp("guests")
    return build("tiny", cache_dir)
