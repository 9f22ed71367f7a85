"""The image cache: filled once, read-only, evicted only when nothing stands on it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cirra.agent.v1.desired_pb2 import ImageRef
from compute_agent.files import try_lock
from compute_agent.images.cache import ImageCache
from compute_agent.images.qemu_img import create_overlay
from core.agent.handler import AgentFailure

DAY = timedelta(days=1)


class Source:
    """Gives images of random content; counts how often."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.count = 0
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.errors: list[Exception] = []

    def image(self, name: str = "a") -> ImageRef:
        path = self._folder / f"{name}.qcow2"
        command = ["qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", str(path), "2M"]
        subprocess.run(command, check=True)
        with path.open("ab") as file:
            file.write(name.encode().ljust(512))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        path.rename(self._folder / digest)
        return ImageRef(image_id=name, sha256=digest, disk_format="qcow2", virtual_size_bytes=2 << 20)

    def replace_by_overlay(self, image: ImageRef, backing_file: str) -> None:
        """From now on the image's bytes are those of an image with a backing file."""
        path = self._folder / image.sha256
        path.unlink()
        command = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", backing_file, "-F", "raw", str(path)]
        subprocess.run(command, check=True)

    async def download(self, image: ImageRef, target: Path) -> None:
        self.count += 1
        self.begun.set()
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        shutil.copyfile(self._folder / image.sha256, target)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    (tmp_path / "source").mkdir()
    return Source(tmp_path / "source")


@pytest.fixture
def cache(tmp_path: Path, source: Source) -> ImageCache:
    return ImageCache(tmp_path / "_base", source.download)


async def use(cache: ImageCache, image: ImageRef) -> bool:
    async with cache.use(image) as base:
        assert base.virtual_size_bytes == 2 << 20
        return base.cached


async def evict(cache: ImageCache, *folders: Path, after: timedelta = 2 * DAY) -> list[str]:
    return await cache.evict(folders, unused_for=DAY, now=datetime.now(UTC) + after)


async def test_filled_once_however_many_ask(cache: ImageCache, source: Source) -> None:
    image = source.image()
    source.gate.clear()
    asking = [asyncio.create_task(use(cache, image)) for _ in range(20)]
    await source.begun.wait()
    asking.pop().cancel()
    source.gate.set()
    assert await asyncio.gather(*asking) == [False] * 19
    assert source.count == 1
    assert await use(cache, image)
    assert source.count == 1


async def test_two_processes_fill_it_once(tmp_path: Path, cache: ImageCache, source: Source) -> None:
    image = source.image()
    other = ImageCache(tmp_path / "_base", source.download)
    await asyncio.gather(use(cache, image), use(other, image))
    assert source.count == 1


async def test_a_base_is_read_only_and_whole(cache: ImageCache, source: Source) -> None:
    image = source.image()
    await use(cache, image)
    base = cache.path(image.sha256)
    assert base.stat().st_mode & 0o777 == 0o444
    assert hashlib.sha256(base.read_bytes()).hexdigest() == image.sha256
    assert not base.with_name(base.name + ".part").exists()


async def test_all_who_wait_hear_of_a_failure_and_the_next_tries_again(cache: ImageCache, source: Source) -> None:
    image = source.image()
    source.errors = [AgentFailure("cut", reason="IMAGE_DOWNLOAD_FAILED")]
    results = await asyncio.gather(*(use(cache, image) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [AgentFailure] * 3
    assert not await use(cache, image)


async def test_an_image_with_a_backing_file_never_becomes_a_base(
    tmp_path: Path, cache: ImageCache, source: Source
) -> None:
    image = source.image()
    source.replace_by_overlay(image, "/etc/shadow")
    with pytest.raises(AgentFailure) as caught:
        await use(cache, image)
    assert caught.value.reason == "IMAGE_UNSAFE"
    assert not cache.path(image.sha256).exists()


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 64, "a" * 63])
async def test_a_digest_is_no_path(cache: ImageCache, digest: str) -> None:
    with pytest.raises(AgentFailure):
        await use(cache, ImageRef(sha256=digest, disk_format="raw"))


async def test_unused_bases_go_and_used_ones_stay(tmp_path: Path, cache: ImageCache, source: Source) -> None:
    used, unused = source.image("used"), source.image("unused")
    folder = tmp_path / "instance"
    folder.mkdir()
    async with cache.use(used) as base:
        await create_overlay(folder / "disk", base.path, "qcow2", 4 << 20)
    await use(cache, unused)
    assert await evict(cache, folder, after=timedelta(0)) == []
    assert await evict(cache, folder) == [unused.sha256]
    assert cache.path(used.sha256).exists()
    assert not list((tmp_path / "_base").glob(f"{unused.sha256}*"))
    (folder / "disk").unlink()
    assert await evict(cache, folder) == [used.sha256]
    assert not await use(cache, unused), "it is downloaded again"


async def test_a_base_is_not_evicted_while_an_overlay_is_made_on_it(cache: ImageCache, source: Source) -> None:
    image = source.image()
    async with cache.use(image):
        assert await evict(cache) == []
    assert await evict(cache) == [image.sha256]


async def test_an_abandoned_download_goes_too(tmp_path: Path, cache: ImageCache, source: Source) -> None:
    image = source.image()
    await use(cache, source.image("other"))
    part = tmp_path / "_base" / f"{image.sha256}.part"
    part.touch()
    assert part.name in await evict(cache)
    assert not part.exists()


async def test_if_a_disk_can_t_be_read_nothing_is_evicted(tmp_path: Path, cache: ImageCache, source: Source) -> None:
    image = source.image()
    await use(cache, image)
    (tmp_path / "disk").write_bytes(b"QFI\xfb damaged")
    with pytest.raises(ValueError, match="qcow2"):
        await evict(cache, tmp_path)
    assert cache.path(image.sha256).exists()


def test_a_lock_whose_file_was_removed_is_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = try_lock(path, exclusive=True)
    assert holder is not None
    assert try_lock(path, exclusive=False) is None
    path.unlink()
    newcomer = try_lock(path, exclusive=True)
    assert newcomer is not None
    os.close(holder)
    assert try_lock(path, exclusive=True) is None
    os.close(newcomer)
