"""The cache of guest images, with a recipe that takes no time: one build, whole or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deployment.guests import GuestBuildError, GuestImage
from deployment.guests.__main__ import main
from deployment.guests.cache import build_recipe
from deployment.guests.commands import run
from deployment.guests.image import sha256_of
from deployment.guests.recipe import OnProgress, Recipe

pytestmark = pytest.mark.root

VIRTUAL_SIZE_BYTES = 8 * 1024 * 1024


class EmptyDisk:
    """A recipe's `assemble` that makes an empty disk, counts how often, and can fail or wait."""

    def __init__(self, *, during: Callable[[], None] = lambda: None) -> None:
        self.builds = 0
        self._during = during

    def __call__(self, work: Path, image: Path, on_progress: OnProgress) -> None:
        self.builds += 1
        assert list(work.iterdir()) == []
        (work / "leftover").mkdir()
        self._during()
        run(
            ["qemu-img", "create", "-q", "-f", "qcow2", image, str(VIRTUAL_SIZE_BYTES)],
            timeout_s=30,
            remedy="install qemu-utils",
        )


def build_with(
    assemble: EmptyDisk, cache_dir: Path, *, rebuild: bool = False, progress: list[str] | None = None
) -> GuestImage:
    recipe = Recipe(kind="tiny", login_user="nobody", sources=("errors.py",), assemble=assemble)
    said = [] if progress is None else progress
    return build_recipe(recipe, cache_dir, rebuild=rebuild, on_progress=said.append)


def test_an_image_is_described_as_it_is(tmp_path: Path) -> None:
    image = build_with(EmptyDisk(), tmp_path / "new" / "cache")
    assert image.path.parent == tmp_path / "new" / "cache"
    assert image.sha256 == sha256_of(image.path)
    assert image.size_bytes == image.path.stat().st_size
    assert image.virtual_size_bytes == VIRTUAL_SIZE_BYTES
    assert image.login_user == "nobody"
    assert image.path.stat().st_mode & 0o777 == 0o444
    assert not list(image.path.parent.glob(".build-*"))


def test_a_second_call_builds_nothing_and_says_the_same(tmp_path: Path) -> None:
    assemble = EmptyDisk()
    assert build_with(assemble, tmp_path) == build_with(assemble, tmp_path)
    assert assemble.builds == 1


def test_a_lost_or_truncated_image_is_built_again(tmp_path: Path) -> None:
    assemble = EmptyDisk()
    first = build_with(assemble, tmp_path)
    first.path.unlink()
    again = build_with(assemble, tmp_path)
    again.path.chmod(0o644)
    again.path.write_bytes(b"QFI")
    assert build_with(assemble, tmp_path).size_bytes == first.size_bytes
    assert assemble.builds == 3


def test_a_rebuild_builds_although_there_is_one(tmp_path: Path) -> None:
    assemble = EmptyDisk()
    build_with(assemble, tmp_path)
    assert build_with(assemble, tmp_path, rebuild=True).path.exists()
    assert assemble.builds == 2


def test_a_failed_build_leaves_nothing_and_the_next_succeeds(tmp_path: Path) -> None:
    def fail() -> None:
        raise GuestBuildError("the mirror is away", "wait")

    with pytest.raises(GuestBuildError, match="the mirror is away"):
        build_with(EmptyDisk(during=fail), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".tiny.lock"]
    assert build_with(EmptyDisk(), tmp_path).path.exists()


def test_what_a_killed_builder_left_is_removed(tmp_path: Path) -> None:
    abandoned = tmp_path / ".build-tiny-dead"
    (abandoned / "work").mkdir(parents=True)
    build_with(EmptyDisk(), tmp_path)
    assert not abandoned.exists()


def test_two_at_once_build_once(tmp_path: Path) -> None:
    waiting = threading.Event()

    class Progress(list[str]):
        def append(self, message: str) -> None:
            super().append(message)
            if "another process" in message:
                waiting.set()

    # The first build ends only when the second caller has met the lock.
    assemble = EmptyDisk(during=lambda: None if waiting.wait(90) else pytest.fail("nobody waited"))
    progress = Progress()
    with ThreadPoolExecutor(max_workers=2) as pool:
        calls = [pool.submit(build_with, assemble, tmp_path, progress=progress) for _ in range(2)]
        first, second = (call.result(timeout=120) for call in calls)
    assert first == second
    assert assemble.builds == 1


def test_a_record_that_is_none_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    build_with(EmptyDisk(), tmp_path)
    (record,) = tmp_path.glob("tiny-*.json")
    record.write_text("{}")
    with pytest.raises(GuestBuildError, match=f"rm {record}"):
        build_with(EmptyDisk(), tmp_path)


def test_the_command_reports_an_error_with_its_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    assert main(["tiny", "--cache", str(in_the_way / "cache")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Remedy: choose another cache" in captured.err
