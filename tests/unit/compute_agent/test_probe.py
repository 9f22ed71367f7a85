"""Which guests a host runs is tried, and remembered for a boot."""

from __future__ import annotations

from pathlib import Path

import pytest

from compute_agent import probe


async def test_without_the_device_kvm_is_not_even_tried(tmp_path: Path) -> None:
    tried = []

    async def boots(virt_type: str) -> bool:
        tried.append(virt_type)
        return True

    assert await probe.virt_types(kvm_device=tmp_path / "kvm", boots=boots) == ["qemu"]
    assert tried == ["qemu"]


@pytest.mark.parametrize(
    ("bootable", "expected"), [({"kvm", "qemu"}, ["kvm", "qemu"]), ({"qemu"}, ["qemu"]), (set(), [])]
)
async def test_the_device_alone_is_no_promise(tmp_path: Path, bootable: set[str], expected: list[str]) -> None:
    device = tmp_path / "kvm"
    device.touch()

    async def boots(virt_type: str) -> bool:
        return virt_type in bootable

    assert await probe.virt_types(kvm_device=device, boots=boots) == expected


async def test_it_is_asked_once_a_boot(tmp_path: Path) -> None:
    cache = tmp_path / "probe.json"
    answers = [["kvm", "qemu"], ["qemu"]]

    async def look() -> list[str]:
        return answers.pop(0)

    assert await probe.cached_virt_types(cache, "boot-1", look) == ["kvm", "qemu"]
    assert await probe.cached_virt_types(cache, "boot-1", look) == ["kvm", "qemu"]
    assert await probe.cached_virt_types(cache, "boot-2", look) == ["qemu"]
    assert answers == []


async def test_that_nothing_boots_is_asked_again(tmp_path: Path) -> None:
    answers: list[list[str]] = [[], ["qemu"]]

    async def look() -> list[str]:
        return answers.pop(0)

    assert await probe.cached_virt_types(tmp_path / "probe.json", "boot-1", look) == []
    assert await probe.cached_virt_types(tmp_path / "probe.json", "boot-1", look) == ["qemu"]
