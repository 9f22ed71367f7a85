"""What becomes of an image when qemu-img does not end well: only what the image itself has done speaks against it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from api_gateway.images.errors import INSPECTION_FAILED, ImageRefused
from api_gateway.images.inspect import Limits, inspect
from core.errors import Unavailable

LIMITS = Limits(virtual_size_bytes=1 << 30, cpu_s=1, wall_s=10.0)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(b"a" * 512)
    return path


def pretend(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Puts a qemu-img before the real one that does this."""
    program = folder / "bin" / "qemu-img"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    "script",
    ["exit 1", "kill -SEGV $$", "kill -ABRT $$", "while :; do :; done"],
    ids=["error", "crash", "abort", "cpu"],
)
async def test_its_own_end_refuses_the_image(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    pretend(monkeypatch, tmp_path, script)
    with pytest.raises(ImageRefused) as refused:
        await inspect(image, "raw", LIMITS)
    assert refused.value.reason == INSPECTION_FAILED


@pytest.mark.parametrize("script", ["kill -KILL $$", "kill -TERM $$", "exit 127"], ids=["kill", "term", "not begun"])
async def test_an_end_by_another_s_hand_says_nothing_of_the_image(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    pretend(monkeypatch, tmp_path, script)
    with pytest.raises(Unavailable, match="it ended with") as cut_short:
        await inspect(image, "raw", LIMITS)
    assert (cut_short.value.reason, cut_short.value.retryable) == ("IMAGE_INSPECTION_CUT_SHORT", True)


async def test_time_that_it_did_not_use_says_nothing_of_the_image(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, tmp_path, "exec sleep 60")
    with pytest.raises(Unavailable, match=r"more than 0\.2 s"):
        await inspect(image, "raw", Limits(virtual_size_bytes=1 << 30, wall_s=0.2))
