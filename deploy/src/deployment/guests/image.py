"""What the builder hands out: a guest image, and its record in the cache."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

GuestKind = Literal["tiny", "debian"]
GUEST_KINDS: tuple[GuestKind, ...] = get_args(GuestKind)


@dataclass(frozen=True, slots=True)
class GuestImage:
    """A bootable qcow2 image (SeaBIOS), without backing file.

    `path` is absolute and its file never changes once it exists (its name holds its digest), so that overlays
    may use it as their backing file. `size_bytes` is the file's length, `virtual_size_bytes` the size of the
    guest's disk. `login_user` is who may log in: over ssh with the injected key (debian), or on the console
    (tiny, which asks for nothing). `build_seconds` is what the build took when the image was made.
    """

    path: Path
    sha256: str
    size_bytes: int
    virtual_size_bytes: int
    login_user: str
    build_seconds: float

    def to_record(self) -> str:
        """The image as JSON for the cache; the path as a bare file name, so that a cache may be moved."""
        return json.dumps(dataclasses.asdict(self) | {"path": self.path.name}, indent=1) + "\n"

    @classmethod
    def from_record(cls, record: str, cache_dir: Path) -> GuestImage:
        """The reverse of `to_record`; `ValueError`, `KeyError` or `TypeError` if `record` is not one."""
        fields = json.loads(record)
        return cls(
            path=cache_dir / str(fields["path"]),
            sha256=str(fields["sha256"]),
            size_bytes=int(fields["size_bytes"]),
            virtual_size_bytes=int(fields["virtual_size_bytes"]),
            login_user=str(fields["login_user"]),
            build_seconds=float(fields["build_seconds"]),
        )


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
