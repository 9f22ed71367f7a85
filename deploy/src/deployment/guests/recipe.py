"""What a guest's recipe is to the cache, and the digest by which the cache knows it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from deployment.guests.image import GuestKind

PACKAGE_DIR = Path(__file__).parent
FILES_DIR = PACKAGE_DIR / "files"

OnProgress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one kind of guest is made.

    `sources` are the files and folders below this package of which the image is a function. `assemble(work,
    image, on_progress)` makes the qcow2 file `image`, using the empty folder `work`; it needs root, may raise
    `GuestBuildError`, and leaves no mount or loop device behind, whether it succeeds or not.
    """

    kind: GuestKind
    login_user: str
    sources: tuple[str, ...]
    assemble: Callable[[Path, Path, OnProgress], None]

    def digest(self) -> str:
        """The SHA-256 of everything in `sources`, by name and content."""
        return digest_of(read_sources(PACKAGE_DIR, self.sources))


def read_sources(base: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """Each named file, and each file of each named folder: path relative to `base` → content."""
    files: list[Path] = []
    for name in names:
        path = base / name
        files += [path] if path.is_file() else [found for found in path.rglob("*") if found.is_file()]
    return {str(file.relative_to(base)): file.read_bytes() for file in files}


def digest_of(contents: Mapping[str, bytes]) -> str:
    """A SHA-256 in hexadecimal; lengths go in, so that no two different sets of files share one."""
    digest = hashlib.sha256()
    for name in sorted(contents):
        encoded = name.encode()
        digest.update(len(encoded).to_bytes(8) + encoded)
        digest.update(len(contents[name]).to_bytes(8) + contents[name])
    return digest.hexdigest()
