"""Writing key files: never readable by others, never half written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

PRIVATE_MODE = 0o600
PUBLIC_MODE = 0o644


def ensure_private_folder(folder: Path) -> None:
    """Make *folder* (and its parents) if it is missing; a folder made here is open to its owner only."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def write_atomically(path: Path, data: bytes, mode: int) -> None:
    """Write *data* to *path* so that a reader sees the old file or the new one, and a crash leaves either.

    The temporary file is created with mode 0600, so that a secret is at no moment readable by others.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_private(path: Path, data: bytes) -> None:
    """Write a secret: mode 0600, atomically."""
    write_atomically(path, data, PRIVATE_MODE)


def write_public(path: Path, data: bytes) -> None:
    """Write a certificate or another public file: mode 0644, atomically."""
    write_atomically(path, data, PUBLIC_MODE)


def sync_folder(folder: Path) -> None:
    """Makes renames and unlinks in *folder* durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
