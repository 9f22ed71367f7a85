"""The cache of guest images: built once per recipe, published whole, safe among processes.

In the folder: `<kind>-<digest of the image>.qcow2`, which never changes; `<kind>-<digest of the recipe>.json`
with what `build` returns for a recipe; `.<kind>.lock`; while a build runs `.build-<kind>-*`. Images of old
recipes stay: an overlay may live on them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from deployment.guests import debian, tiny
from deployment.guests.commands import require_root, run
from deployment.guests.errors import GuestBuildError
from deployment.guests.image import GuestImage, GuestKind, sha256_of
from deployment.guests.recipe import OnProgress, Recipe

DEFAULT_CACHE_DIR = Path("/var/cache/cirra/guests")

_RECIPES: dict[GuestKind, Recipe] = {"tiny": tiny.RECIPE, "debian": debian.RECIPE}
_DIGITS_IN_NAMES = 16


def _silent(message: str) -> None:
    """The default for `on_progress`: nobody listens."""


def build(
    kind: GuestKind,
    cache_dir: Path = DEFAULT_CACHE_DIR,
    *,
    rebuild: bool = False,
    on_progress: OnProgress = _silent,
) -> GuestImage:
    """The image of a guest, from the cache or freshly built: that takes seconds (tiny) or a minute (debian).

    An image is what its recipe made of the packages of its day; `rebuild` makes a new one of today's, beside
    the old. Raises `GuestBuildError`. A build needs root; a hit in the cache doesn't. It blocks: in asyncio,
    call it by `asyncio.to_thread`.
    """
    return build_recipe(_RECIPES[kind], cache_dir, rebuild=rebuild, on_progress=on_progress)


def build_recipe(recipe: Recipe, cache_dir: Path, *, rebuild: bool, on_progress: OnProgress) -> GuestImage:
    """As `build`, for any recipe."""
    cache_dir = cache_dir.absolute()
    record = cache_dir / f"{recipe.kind}-{recipe.digest()[:_DIGITS_IN_NAMES]}.json"
    if not rebuild and (image := _lookup(record)) is not None:
        return image
    require_root(f"building the {recipe.kind} guest (loop mount, boot loader)")
    _make_cache_dir(cache_dir)
    with _exclusive(cache_dir / f".{recipe.kind}.lock", on_progress):
        # Another process may have built it while this one waited for the lock.
        if not rebuild and (image := _lookup(record)) is not None:
            return image
        _remove_abandoned_work(cache_dir, recipe.kind)
        return _build_and_publish(recipe, record, on_progress)


def _lookup(record: Path) -> GuestImage | None:
    """The recorded image if its file is there in its full length, else None."""
    try:
        image = GuestImage.from_record(record.read_text(), record.parent)
        return image if image.path.stat().st_size == image.size_bytes else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise GuestBuildError(f"{record} is not a record of this cache: {error}", f"rm {record}") from error


def _make_cache_dir(cache_dir: Path) -> None:
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GuestBuildError(f"cannot make {cache_dir}: {error.strerror}", "choose another cache") from error


@contextlib.contextmanager
def _exclusive(lock: Path, on_progress: OnProgress) -> Iterator[None]:
    """Holds an flock(2), which the kernel drops with its holder, however that one ends."""
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_progress("another process is building; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove_abandoned_work(cache_dir: Path, kind: GuestKind) -> None:
    """Removes what a killed builder left. Only under the lock: then nobody else is building this kind."""
    for abandoned in cache_dir.glob(f".build-{kind}-*"):
        shutil.rmtree(abandoned)


def _build_and_publish(recipe: Recipe, record: Path, on_progress: OnProgress) -> GuestImage:
    """Builds in a folder beside the result, so that each rename is atomic; the record comes last."""
    cache_dir = record.parent
    started = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix=f".build-{recipe.kind}-", dir=cache_dir))
    try:
        unpublished = work / "image.qcow2"
        scratch = work / "work"
        scratch.mkdir()
        recipe.assemble(scratch, unpublished, on_progress)
        image = _describe(recipe, unpublished, cache_dir, build_seconds=round(time.monotonic() - started, 1))
        unpublished.chmod(0o444)
        _publish(unpublished, image.path)
        new_record = work / "record.json"
        new_record.write_text(image.to_record())
        _publish(new_record, record)
    finally:
        shutil.rmtree(work)
    on_progress(f"{recipe.kind} guest ready in {image.build_seconds} s: {image.path}")
    return image


def _describe(recipe: Recipe, qcow2: Path, cache_dir: Path, *, build_seconds: float) -> GuestImage:
    sha256 = sha256_of(qcow2)
    info = run(
        ["qemu-img", "info", "--output=json", "-f", "qcow2", qcow2],
        timeout_s=30,
        remedy="see what qemu-img says",
    )
    return GuestImage(
        path=cache_dir / f"{recipe.kind}-{sha256[:_DIGITS_IN_NAMES]}.qcow2",
        sha256=sha256,
        size_bytes=qcow2.stat().st_size,
        virtual_size_bytes=int(json.loads(info)["virtual-size"]),
        login_user=recipe.login_user,
        build_seconds=build_seconds,
    )


def _publish(source: Path, target: Path) -> None:
    """Makes `source` durable, then visible as `target`: fsync, rename, fsync of the folder."""
    _fsync(source)
    source.replace(target)
    _fsync(target.parent)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
