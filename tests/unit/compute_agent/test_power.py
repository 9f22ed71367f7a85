"""Whether a guest that is off stays off."""

from __future__ import annotations

from pathlib import Path

from compute_agent.handlers.power import PowerRecord


def test_only_its_own_shutdown_keeps_a_guest_down_and_only_until_it_is_wanted_anew(tmp_path: Path) -> None:
    power = PowerRecord(tmp_path)
    assert not power.stays_down(1)
    power.note_on(3)
    assert not power.stays_down(3)
    power.note_shutdown_by_guest()
    assert PowerRecord(tmp_path).stays_down(3)
    assert not power.stays_down(4)
    power.note_on(4)
    assert not power.stays_down(4)


def test_a_shutdown_of_a_guest_that_was_never_made_to_run_says_nothing(tmp_path: Path) -> None:
    power = PowerRecord(tmp_path)
    power.note_shutdown_by_guest()
    assert not power.stays_down(1)


def test_without_a_folder_there_is_nothing_to_note(tmp_path: Path) -> None:
    power = PowerRecord(tmp_path / "gone")
    power.note_on(1)
    assert not (tmp_path / "gone").exists()
