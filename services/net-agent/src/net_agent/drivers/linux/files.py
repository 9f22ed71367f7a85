"""Files that another process reads while we change them."""

from __future__ import annotations

import os
from pathlib import Path


def read_text(path: Path) -> str:
    """Empty when there is no file."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def replace_text(path: Path, text: str) -> bool:
    """Replaces the whole file at once if its text differs; says whether it did. Readable by all (0644)."""
    if path.exists() and read_text(path) == text:
        return False
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text)
    temporary.chmod(0o644)
    temporary.replace(path)
    return True


def make_folder(path: Path) -> None:
    """Others may look in: dnsmasq reads its files as a user of its own. A umask doesn't change that."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o755)


def limit_log(path: Path, max_bytes: int = 1 << 20) -> None:
    """Empties a log that has grown too long: its writer appends, and so goes on in the same file."""
    try:
        if path.stat().st_size > max_bytes:
            os.truncate(path, 0)
    except FileNotFoundError:
        return


def can_reach(path: Path) -> bool:
    """Every folder on the way can be passed by every user."""
    return all(parent.stat().st_mode & 0o001 for parent in (path, *path.parents) if parent.exists())
