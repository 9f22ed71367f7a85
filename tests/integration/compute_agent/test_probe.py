"""The probe's guest, as source and as a guest."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from compute_agent import probe


def test_the_boot_sector_is_its_source_assembled(tmp_path: Path) -> None:
    source = Path(probe.__file__).with_name("probe_guest.s")
    commands = [
        ["as", "--64", "-o", "guest.o", str(source)],
        ["ld", "-m", "elf_x86_64", "-Ttext=0x7c00", "--oformat", "binary", "-o", "guest.bin", "guest.o"],
    ]
    for command in commands:
        subprocess.run(command, check=True, cwd=tmp_path)
    assert (tmp_path / "guest.bin").read_bytes() == probe.BOOT_SECTOR
    assert len(probe.BOOT_SECTOR) == 512


async def test_this_machine_emulates_at_least() -> None:
    assert "qemu" in await probe.virt_types()


async def test_an_emulator_that_is_not_there_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "QEMU", "qemu-system-none")
    assert not await probe.boots_guest("qemu")


async def test_another_guest_than_ours_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "BOOT_SECTOR", b"\xf4".ljust(510, b"\0") + b"\x55\xaa")
    monkeypatch.setattr(probe, "TIMEOUT_S", 1.0)
    assert not await probe.boots_guest("qemu")
