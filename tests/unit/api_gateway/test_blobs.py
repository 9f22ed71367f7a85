"""The folder of blobs: kept whole, swept with care."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from api_gateway.images.blobs import UNUSED_MIN_AGE_S, UPLOAD_MAX_AGE_S, Blobs


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path)


def _keep(blobs: Blobs, data: bytes) -> str:
    upload = blobs.begin()
    upload.write(data[:1])
    upload.write(data[1:])
    upload.finish()
    blobs.keep(upload)
    upload.discard()
    return upload.sha256


def test_a_blob_is_found_by_its_checksum(blobs: Blobs) -> None:
    sha256 = _keep(blobs, b"data")
    assert sha256 == hashlib.sha256(b"data").hexdigest()
    path = blobs.path(sha256)
    assert path is not None and path.read_bytes() == b"data"
    for other in ("0" * 64, "../lock", "", sha256.upper()):
        assert blobs.path(other) is None


def test_what_is_discarded_leaves_nothing(blobs: Blobs, tmp_path: Path) -> None:
    upload = blobs.begin()
    upload.write(b"x")
    assert len(list((tmp_path / "uploads").iterdir())) == 1
    upload.discard()
    assert not list((tmp_path / "uploads").iterdir())


def test_only_old_and_unwanted_blobs_are_swept(blobs: Blobs, tmp_path: Path) -> None:
    wanted, unwanted, fresh = (_keep(blobs, data) for data in (b"wanted", b"unwanted", b"fresh"))
    stale = blobs.begin()
    now = time.time()
    long_ago = now - max(UNUSED_MIN_AGE_S, UPLOAD_MAX_AGE_S) - 1
    for path in (tmp_path / "blobs" / wanted, tmp_path / "blobs" / unwanted, stale.path):
        os.utime(path, (long_ago, long_ago))
    running = blobs.begin()
    assert blobs.sweep({wanted}, now) == [unwanted]
    assert blobs.path(wanted) and blobs.path(fresh) and not blobs.path(unwanted)
    assert running.path.exists() and not stale.path.exists()
    for upload in (running, stale):
        upload.discard()


def test_the_same_data_again_is_wanted_again(blobs: Blobs, tmp_path: Path) -> None:
    sha256 = _keep(blobs, b"data")
    os.utime(tmp_path / "blobs" / sha256, (0, 0))
    assert _keep(blobs, b"data") == sha256
    assert blobs.sweep(set(), time.time()) == []
    assert blobs.path(sha256)
