"""Kernel modules and the order in which they must be loaded, read from the modules themselves.

A package's modules come without modules.dep (depmod(8) runs on the installing machine), but each names what
it depends on in its .modinfo section.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from deployment.guests.errors import GuestBuildError

_REMEDY = "this kernel is built otherwise than the recipe expects: adapt the recipe's list of modules"


@dataclass(frozen=True, slots=True)
class Module:
    """A module by its canonical name (underscores), and its uncompressed ELF object."""

    name: str
    content: bytes


def canonical(name: str) -> str:
    """`virtio-rng.ko.xz` → `virtio_rng`: hyphens and underscores are the same to the kernel (modprobe(8))."""
    return name.split(".ko", 1)[0].replace("-", "_")


def depends_of(content: bytes) -> tuple[str, ...]:
    """The modules that a module needs, from its .modinfo strings (`depends=a,b`, each ended by a zero)."""
    found = re.search(rb"\0depends=([^\0]*)\0", content)
    if found is None or not found.group(1):
        return ()
    return tuple(canonical(name) for name in found.group(1).decode("ascii").split(","))


def load_order(wanted: Iterable[str], depends: Callable[[str], Iterable[str]]) -> list[str]:
    """`wanted` and all they need, each once, none before what it needs; `GuestBuildError` on a circle."""
    ordered: dict[str, None] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise GuestBuildError(f"modules depend in a circle: {' → '.join((*path, name))}", _REMEDY)
        if name in ordered:
            return
        for needed in depends(name):
            visit(needed, (*path, name))
        ordered[name] = None

    for name in wanted:
        visit(canonical(name), ())
    return list(ordered)


def collect_modules(modules_dir: Path, wanted: Iterable[str]) -> list[Module]:
    """The modules to load, in order; what the kernel has built in is left out.

    Raises `GuestBuildError` if one is neither there nor built in.
    """
    files = {canonical(file.name): file for file in modules_dir.rglob("*.ko*")}
    builtin = {canonical(Path(line).name) for line in (modules_dir / "modules.builtin").read_text().split()}
    contents: dict[str, bytes] = {}

    def depends(name: str) -> tuple[str, ...]:
        if name in builtin:
            return ()
        if name not in files:
            raise GuestBuildError(f"the kernel of {modules_dir.name} has no module {name}", _REMEDY)
        contents[name] = _read(files[name])
        return depends_of(contents[name])

    order = load_order(wanted, depends)
    return [Module(name, contents[name]) for name in order if name in contents]


def _read(file: Path) -> bytes:
    """A module's ELF object. Debian ships them plain (12) or as .xz (13)."""
    if file.suffix == ".ko":
        return file.read_bytes()
    if file.suffix == ".xz":
        return lzma.decompress(file.read_bytes())
    raise GuestBuildError(f"{file.name} is compressed in an unknown way", _REMEDY)
