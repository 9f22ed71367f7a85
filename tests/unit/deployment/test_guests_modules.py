"""Kernel modules of a guest: what they need, and the order in which to load them."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from deployment.guests import GuestBuildError
from deployment.guests.modules import canonical, collect_modules, depends_of, load_order


def elf_with(modinfo: bytes) -> bytes:
    return b"\x7fELF" + b"\0" * 60 + b"license=GPL\0" + modinfo + b"\0name=some\0" + b"\0" * 8


def test_names_are_canonical() -> None:
    assert canonical("virtio-rng.ko.xz") == "virtio_rng"
    assert canonical("virtio_net.ko") == "virtio_net"
    assert canonical("sd_mod") == "sd_mod"


def test_dependencies_are_read_from_the_modinfo_section() -> None:
    assert depends_of(elf_with(b"depends=virtio,virtio-ring")) == ("virtio", "virtio_ring")
    assert depends_of(elf_with(b"depends=")) == ()
    assert depends_of(elf_with(b"author=nobody")) == ()


def test_each_module_follows_what_it_needs_and_comes_once() -> None:
    needs = {
        "virtio_net": ["virtio", "virtio_ring"],
        "virtio_blk": ["virtio", "virtio_ring"],
        "virtio": ["virtio_ring"],
    }
    order = load_order(["virtio_net", "virtio_blk"], lambda name: needs.get(name, []))
    assert order == ["virtio_ring", "virtio", "virtio_net", "virtio_blk"]


def test_a_circle_is_an_error_that_names_it() -> None:
    needs = {"a": ["b"], "b": ["c"], "c": ["a"]}
    with pytest.raises(GuestBuildError, match="a → b → c → a"):
        load_order(["a"], needs.__getitem__)


@pytest.fixture
def modules_dir(tmp_path: Path) -> Path:
    """A kernel with `net` (needs `bus`, and `core`, which is built in) and `bus`, which is compressed."""
    folder = tmp_path / "6.1.0-test"
    (folder / "kernel/drivers").mkdir(parents=True)
    (folder / "modules.builtin").write_text("kernel/lib/core.ko\n")
    (folder / "kernel/drivers/net.ko").write_bytes(elf_with(b"depends=bus,core"))
    (folder / "kernel/drivers/bus.ko.xz").write_bytes(lzma.compress(elf_with(b"depends=")))
    return folder


def test_collected_modules_are_uncompressed_ordered_and_without_the_built_in(modules_dir: Path) -> None:
    modules = collect_modules(modules_dir, ["net"])
    assert [module.name for module in modules] == ["bus", "net"]
    assert modules[0].content == elf_with(b"depends=")


def test_a_module_that_is_nowhere_is_an_error_with_a_remedy(modules_dir: Path) -> None:
    with pytest.raises(GuestBuildError, match="has no module gone") as caught:
        collect_modules(modules_dir, ["gone"])
    assert "recipe" in caught.value.remedy
