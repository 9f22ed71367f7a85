"""Tests that do what only root may."""

from __future__ import annotations

import os

import pytest


def require_root(needed: str) -> None:
    """Skips the test for anybody else; fails it where nothing may be left out. `needed`: what root is needed for."""
    if os.geteuid() == 0:
        return
    if os.environ.get("CI"):
        pytest.fail(f"end-to-end tests need root: {needed}")
    pytest.skip(f"needs root: {needed}")
